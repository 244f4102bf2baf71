/** Throughput, wait and speed over a window, from `GET /statistics`. */

import { count, duration, number, rate, short, span } from "../format.js";
import { go } from "../router.js";
import { WINDOWS, statistics } from "../resources.js";
import { h } from "../ui.js";
import { Section, known } from "./basics.js";
import { Chart } from "./chart.js";
import { Watching } from "./watching.js";

const WORDS = { "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };

/** Round parts of a second, seconds, minutes, hours and days, so that an axis does not count in 40 seconds. */
const ROUND = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400, 172_800, 604_800];

/** Whole jobs: there is no half of one. */
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((figure) => figure * 10 ** power)).flat();

/** @param {URLSearchParams} query - the window that an address asks for */
export const windowOf = (query) => (WINDOWS.includes(query.get("window")) ? query.get("window") : "1h");

/** @param {any[]} points @param {string} name */
export const sum = (points, name) => points.reduce((total, point) => total + (point[name] ?? 0), 0);

/** @param {any[]} points @param {string} name */
const highest = (points, name) => points.reduce((most, point) => Math.max(most, point[name] ?? 0), 0);

/** Props: `window`. */
export class Charts extends Watching {
  watches() {
    return [statistics(this.props.window)];
  }

  render({ window }) {
    const choice = h(
      "div",
      { class: "choice", role: "group", "aria-label": "Time shown" },
      WINDOWS.map((name) =>
        h(
          "button",
          {
            key: name,
            type: "button",
            "aria-pressed": String(name === window),
            "aria-label": `The last ${WORDS[name]}`,
            onClick: () => go("", { window: name === "1h" ? null : name }, { replace: true }),
          },
          name,
        ),
      ),
    );
    return h(
      Section,
      { title: "Throughput", id: "throughput", class: "charts", aside: choice },
      known(statistics(window), (data) => h(Drawn, { data, window })),
    );
  }
}

function Drawn({ data, window }) {
  const { points, bucket_seconds: bucket } = data;
  const at = points.map((point) => Date.parse(point.at) / 1_000);
  const values = (name) => points.map((point) => point[name]);
  const common = { at, bucket, label: (from) => span(from, from + bucket) };
  const last = `in the last ${WORDS[window]}`;
  const [done, failed, cancelled] = ["done", "failed", "cancelled"].map((name) => sum(points, name));
  return h(
    "div",
    { class: "chart-row" },
    h(Chart, {
      ...common,
      title: "Jobs ended",
      summary: `${number(done)} done, ${number(failed)} failed and ${number(cancelled)} cancelled ${last}.`,
      format: short,
      steps: WHOLE,
      series: ["cancelled", "failed", "done"].map((name) => ({ name, color: `--${name}`, values: values(name), bars: true })),
    }),
    h(Chart, {
      ...common,
      title: "Wait",
      summary: `at most ${duration(highest(points, "wait_longest_seconds"))} ${last}.`,
      format: duration,
      steps: ROUND,
      series: [
        { name: "longest", color: "--longest", values: values("wait_longest_seconds") },
        { name: "mean", color: "--working", values: values("wait_mean_seconds") },
      ],
    }),
    h(Chart, {
      ...common,
      title: "Tokens per second",
      summary: `at most ${rate(highest(points, "tokens_per_second"))} while generating; ${count(sum(points, "generated_tokens"), "token")} ${last}.`,
      format: rate,
      series: [{ name: "while generating", color: "--tokens", values: values("tokens_per_second") }],
    }),
  );
}
