/** A question that has to be answered first: the browser's own dialog, which keeps the keyboard inside and Esc working. */

import { Component, createRef, h } from "../ui.js";

/** Props: `title`, `children`, `yes`, `no`, `onYes`, `onNo`. Open as long as it is drawn. */
export class Confirm extends Component {
  #dialog = createRef();

  componentDidMount() {
    this.#dialog.current.showModal();
  }

  render({ title, children, yes, no, onYes, onNo }) {
    // It closes itself before it is taken away, and so gives the focus back to where it was.
    const close = (answer) => () => this.#dialog.current.close(answer);
    const closed = () => (this.#dialog.current.returnValue === "yes" ? onYes() : onNo());
    return h(
      "dialog",
      { ref: this.#dialog, "aria-labelledby": "confirm-title", onClose: closed },
      h("h2", { id: "confirm-title" }, title),
      h("div", { class: "dialog-text" }, children),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", onClick: close("no") }, no),
        h("button", { type: "button", class: "danger", onClick: close("yes") }, yes),
      ),
    );
  }
}
