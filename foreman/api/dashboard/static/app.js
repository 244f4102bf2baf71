/** The page as a whole: which view is on show, what is said of it, and where the keyboard is after a change. */

import { notice } from "./announce.js";
import * as live from "./live.js";
import { href, route } from "./router.js";
import { locked } from "./token.js";
import { Fragment, createRef, h, render } from "./ui.js";
import { Banner } from "./parts/banner.js";
import { Guard } from "./parts/guard.js";
import { Empty } from "./parts/basics.js";
import { Header } from "./parts/header.js";
import { Watching } from "./parts/watching.js";
import { JobPage } from "./views/job.js";
import { Jobs } from "./views/jobs.js";
import { Locked } from "./views/locked.js";
import { Models } from "./views/models.js";
import { Overview } from "./views/overview.js";
import { Webhooks } from "./views/webhooks.js";

const TITLES = new Map([["", "Overview"], ["jobs", "Jobs"], ["models", "Models"], ["webhooks", "Webhooks"]]);

class App extends Watching {
  #main = createRef();
  #shown = null;

  watches() {
    return [route, locked];
  }

  componentDidMount() {
    super.componentDidMount();
    this.#shown = this.#place();
    this.#title();
  }

  componentDidUpdate() {
    const place = this.#place();
    if (place === this.#shown) return;
    this.#shown = place;
    this.#title();
    window.scrollTo(0, 0);
    // The door takes the focus itself.
    if (!locked.get()) this.#main.current.querySelector("h1")?.focus({ preventScroll: true });
  }

  render() {
    const open = !locked.get();
    const [page = ""] = route.get().parts;
    const skip = (event) => {
      event.preventDefault(); // the address names the view, so it cannot name a place within it
      this.#main.current.focus();
    };
    return h(
      Fragment,
      null,
      h("a", { class: "skip", href: "#main", onClick: skip }, "Skip to content"),
      h(Header, { page, open }),
      open && h(Banner),
      h("main", { id: "main", ref: this.#main, tabIndex: -1 }, h(Guard, { key: this.#place() }, open ? this.#view() : h(Locked))),
      h(Notice),
    );
  }

  #view() {
    const current = route.get();
    const [page = "", id, ...rest] = current.parts;
    const filter = current.query.toString();
    if (page === "jobs" && id && !rest.length) return h(JobPage, { key: id, id, onTitle: (title) => this.#title(title) });
    if (id === undefined && page === "") return h(Overview, { key: "overview", route: current });
    if (id === undefined && page === "jobs") return h(Jobs, { key: `jobs ${filter}`, route: current });
    if (id === undefined && page === "models") return h(Models, { key: "models" });
    if (id === undefined && page === "webhooks") return h(Webhooks, { key: `webhooks ${filter}`, route: current });
    return h("div", { class: "view" }, h("h1", { tabIndex: -1 }, "There is no such page"), h(Empty, null, h("a", { href: href("") }, "Overview")));
  }

  /** What the view is of; the same view with another filter is no other place. */
  #place() {
    return locked.get() ? "locked" : route.get().parts.join("/");
  }

  #title(of = undefined) {
    const [page = "", id] = route.get().parts;
    const name = locked.get() ? "Token" : (of ?? (id ? `Job ${id}` : (TITLES.get(page) ?? "Not found")));
    document.title = `${name} · foreman`;
  }
}

/** What was said last: to screen readers always, to the eye if nothing else shows it. */
class Notice extends Watching {
  watches() {
    return [notice];
  }

  render() {
    const { text, fault, seen } = notice.get();
    return h("div", { class: seen ? `notice${fault ? " fault" : ""}` : "unseen", role: "status" }, text);
  }
}

render(h(App), document.getElementById("app"));
live.start();
