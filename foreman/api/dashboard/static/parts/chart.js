/** A chart over time by uPlot, with its figures as a table for those who cannot see it. Knows nothing of jobs. */

import { tick } from "../format.js";
import { theme } from "../theme.js";
import { Component, createRef, h } from "../ui.js";
import uPlot from "../vendor/uplot-1.6.32/uPlot.esm.js";
import { Table } from "./table.js";

const HEIGHT = 132;

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} color - a custom property of the style sheet: `--done`
 * @property {Array<number | null>} values
 * @property {boolean} [bars] - bars, stacked in the order given, or a line
 */

/**
 * Props: `title`, `summary` (the chart in a sentence), `at` (seconds since 1970, the begin of each value), `bucket` (the
 * seconds of each), `series`, `format` (of a value), `label` (of a moment), `steps` (what the axis of values may count in).
 */
export class Chart extends Component {
  #place = createRef();
  #plot = null;
  #resized = null;
  #stop = null;

  componentDidMount() {
    this.#draw();
    this.#stop = theme.watch(() => this.#draw());
    this.#resized = new ResizeObserver(() => this.#fit());
    this.#resized.observe(this.#place.current);
  }

  componentWillUnmount() {
    this.#resized.disconnect();
    this.#stop();
    this.#plot?.destroy();
  }

  componentDidUpdate() {
    this.#plot?.setData(this.#data());
  }

  render({ title, summary, series, at, format, label }, { index = null, table = false }) {
    const shown = index ?? at.length - 1;
    return h(
      "figure",
      { class: "chart" },
      h(
        "figcaption",
        null,
        h("span", { class: "chart-title" }, title),
        h(
          "span",
          { class: "legend", "aria-hidden": "true" },
          h("span", { class: "when" }, at.length ? label(at[shown]) : ""),
          [...series].reverse().map(({ name, color, values }) =>
            h("span", { key: name, class: "entry" }, h("i", { class: `key key${color}` }), `${name} `, h("b", null, format(values[shown]))),
          ),
        ),
      ),
      h("div", { class: "plot", ref: this.#place, role: "img", "aria-label": `${title}: ${summary}` }),
      h(
        "details",
        { onToggle: (event) => this.setState({ table: event.currentTarget.open }) },
        h("summary", null, "Figures", h("span", { class: "unseen" }, ` of the chart ${title}`)),
        table && this.#table(),
      ),
    );
  }

  #table() {
    const { title, at, series, format, label } = this.props;
    const columns = [
      { name: "When", cell: (index) => label(at[index]) },
      ...series.map(({ name, values }) => ({ name, kind: "number", cell: (index) => format(values[index]) })),
    ];
    const rows = at.map((_, index) => index).reverse();
    return h(
      "div",
      { class: "figures", tabIndex: 0, role: "group", "aria-label": `Figures of ${title}` },
      h(Table, { caption: title, columns, rows, keyOf: (index) => at[index] }),
    );
  }

  /** Bars are drawn over each other, the sum of all first. */
  #data() {
    const { at, series } = this.props;
    const sums = series.map(({ values, bars }, from) =>
      bars ? values.map((_, index) => series.slice(from).reduce((sum, one) => sum + one.values[index], 0)) : values,
    );
    return [at, ...sums];
  }

  #draw() {
    const place = this.#place.current;
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(place), this.#data(), place);
  }

  #fit() {
    const width = this.#place.current.clientWidth;
    if (this.#plot && width && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #options(place) {
    const { series, at, format, bucket, steps } = this.props;
    const styles = getComputedStyle(place);
    // A canvas takes no custom property, so each is resolved as the colour of the chart's own text.
    const color = (name) => {
      place.style.color = `var(${name})`;
      return styles.color;
    };
    const axis = { stroke: color("--chart-text"), font: `11px ${styles.fontFamily}`, ticks: { show: false } };
    const grid = { stroke: color("--chart-grid"), width: 1 };
    const bars = uPlot.paths.bars({ size: [0.7, 24], align: 1 });
    return {
      width: place.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: { x: { range: (_, min, max) => [min, max + bucket] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 24, space: 64, values: (_, marks) => marks.map((mark) => tick(mark, bucket * at.length)) },
        { ...axis, grid, size: 46, space: 28, ...(steps && { incrs: steps }), values: (_, marks) => marks.map((mark) => format(mark)) },
      ],
      series: [
        {},
        ...series.map((one) => ({
          stroke: color(one.color),
          fill: one.bars ? color(one.color) : undefined,
          width: one.bars ? 0 : 1.5,
          paths: one.bars ? bars : undefined,
          points: { show: !one.bars && lonely(one.values), size: 4, fill: color(one.color) },
        })),
      ],
      hooks: { setCursor: [(plot) => this.setState({ index: plot.cursor.idx ?? null })] },
    };
  }
}

/** @param {Array<number | null>} values - whether some stand alone, so that a line would not show them */
function lonely(values) {
  return values.some((value, index) => value != null && values[index - 1] == null && values[index + 1] == null);
}
