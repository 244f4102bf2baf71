/** The top of every page: where to go, whether the page is current, colours and token. */

import { feed } from "../live.js";
import { href } from "../router.js";
import { theme, toggle } from "../theme.js";
import { forget, held } from "../token.js";
import { h } from "../ui.js";
import { Watching } from "./watching.js";

const PAGES = [
  ["", "Overview"],
  ["jobs", "Jobs"],
  ["models", "Models"],
  ["webhooks", "Webhooks"],
];

/** Props: `page`, the first part of the address; `open`, whether there is anything to go to. */
export class Header extends Watching {
  watches() {
    return [theme, held];
  }

  render({ page, open }) {
    const other = theme.get() === "dark" ? "light" : "dark";
    return h(
      "header",
      { class: "top" },
      h("a", { class: "brand", href: href("") }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 20, height: 20 }), "foreman"),
      open &&
        h(
          "nav",
          { "aria-label": "Main" },
          PAGES.map(([path, name]) => h("a", { key: path, href: href(path), "aria-current": path === page ? "page" : null }, name)),
        ),
      h(
        "div",
        { class: "tools" },
        open && h(Connection),
        open && held.get() && h("button", { type: "button", class: "plain", onClick: forget }, "Forget token"),
        h("button", { type: "button", class: "plain", onClick: toggle, "aria-label": `Use ${other} colours` }, other === "dark" ? "Dark" : "Light"),
      ),
    );
  }
}

/** Whether what is shown is what is. */
class Connection extends Watching {
  watches() {
    return [feed.state];
  }

  render() {
    const state = feed.state.get();
    return h("span", { class: `connection connection-${state}`, role: "status" }, h("span", { "data-testid": "connection" }, state));
  }
}
