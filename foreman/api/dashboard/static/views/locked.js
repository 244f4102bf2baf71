/** The page's door: asks for the token once. It goes into a header and nowhere else, and never into an address. */

import { request } from "../api.js";
import * as token from "../token.js";
import { Component, createRef, h } from "../ui.js";

export class Locked extends Component {
  #field = createRef();
  state = { fault: "", busy: false };

  componentDidMount() {
    this.#field.current.focus();
  }

  #open = async (event) => {
    event.preventDefault();
    const given = this.#field.current.value.trim();
    const remember = event.currentTarget.elements.remember.checked;
    // A header could not carry anything else.
    if (!/^[\x21-\x7e]+$/.test(given)) return this.#refuse("A token is made of visible ASCII characters without blanks.");
    this.setState({ busy: true, fault: "" });
    token.use(given);
    try {
      await request("/queue?limit=0");
    } catch (error) {
      token.use("");
      return this.#refuse(error.status === 401 ? "This token is wrong." : `${error.message}.`);
    }
    token.keep(remember);
    token.locked.set(false);
    return undefined;
  };

  #refuse(fault) {
    this.setState({ fault, busy: false });
    this.#field.current.select();
  }

  render(_, { fault, busy }) {
    return h(
      "form",
      { class: "door card", onSubmit: this.#open, "aria-labelledby": "door" },
      h("h1", { id: "door", tabIndex: -1 }, "This foreman asks for a token"),
      h("p", { class: "quiet" }, "It is the one in FOREMAN_TOKEN."),
      h("label", { for: "token" }, "Token"),
      h("input", { id: "token", ref: this.#field, type: "password", autocomplete: "off", spellcheck: false, required: true, "aria-invalid": fault ? "true" : null, "aria-describedby": "token-fault" }),
      h("p", { id: "token-fault", class: "fault", role: "alert" }, fault),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "remember" }), "Remember on this device"),
      h("button", { type: "submit", class: "primary", disabled: busy }, busy ? "Opening…" : "Open"),
    );
  }
}
