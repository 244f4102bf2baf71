/** Keeps an error of the page's own to the view that it is in: the rest stays, and other views can be gone to. */

import { Component, h } from "../ui.js";

/** Props: `children`, the view. */
export class Guard extends Component {
  state = { error: null };

  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ children }, { error }) {
    if (!error) return children;
    return h(
      "div",
      { class: "view" },
      h("h1", { tabIndex: -1 }, "This page met an error of its own"),
      h("p", { role: "alert" }, `${error}. `, h("button", { type: "button", onClick: () => location.reload() }, "Reload")),
    );
  }
}
