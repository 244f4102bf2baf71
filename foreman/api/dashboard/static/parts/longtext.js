/** A text that may be megabytes long: its beginning, the rest on demand and in pieces, and all of it as a file. */

import { count, number } from "../format.js";
import { Component, h } from "../ui.js";

/** Characters shown at once: many times what anybody reads, and drawn before anybody notices. */
const FIRST = 250_000;
/** Characters added to the page in one frame. */
const PIECE = 100_000;
/** How far before a piece's end a line's end is looked for: there a cut is not seen. */
const LINE = 5_000;

/**
 * Let the browser save something as a file.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {string} text @param {number} from @param {number} size - where a piece of about this size ends */
function cut(text, from, size) {
  const end = from + size;
  if (end >= text.length) return text.length;
  const line = text.lastIndexOf("\n", end);
  if (line >= end - LINE && line > from) return line + 1;
  // Not between the halves of a character.
  return /[\ud800-\udbff]/.test(text[end - 1]) ? end - 1 : end;
}

/** Props: `text`, `file` (its name when it is saved), `label`, `testid`. */
export class LongText extends Component {
  #frame = 0;

  constructor(props) {
    super(props);
    this.state = { ends: [cut(props.text, 0, FIRST)] };
  }

  componentDidUpdate(before) {
    if (before.text !== this.props.text) {
      cancelAnimationFrame(this.#frame);
      this.setState({ ends: [cut(this.props.text, 0, FIRST)] });
    }
  }

  componentWillUnmount() {
    cancelAnimationFrame(this.#frame);
  }

  #showAll = () => {
    const { text } = this.props;
    this.setState(({ ends }) => ({ ends: [...ends, cut(text, ends.at(-1), PIECE)] }));
    if (this.state.ends.at(-1) < text.length) this.#frame = requestAnimationFrame(this.#showAll);
  };

  render({ text, file, label, testid }, { ends }) {
    const pieces = ends.map((end, index) => text.slice(index ? ends[index - 1] : 0, end));
    const shown = ends.at(-1);
    return h(
      "div",
      { class: "long-text" },
      h(
        "div",
        { class: "text", tabIndex: 0, role: "group", "aria-label": label, "data-testid": testid },
        pieces.map((piece, index) => h("div", { key: index, class: "piece" }, piece)),
      ),
      shown < text.length &&
        h(
          "p",
          { class: "more" },
          `The first ${number(shown)} of ${count(text.length, "character")}. `,
          h("button", { type: "button", onClick: this.#showAll }, "Show all"),
          " ",
          h(
            "button",
            { type: "button", onClick: () => save(new Blob([text], { type: "text/plain" }), file) },
            "Download",
          ),
        ),
    );
  }
}
