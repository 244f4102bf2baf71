/**
 * The newest of a list that may be very long: a page of it, and a page more whenever the reader asks. It is always one
 * answer of foreman's, so that no part of what is shown is older than the rest.
 */

import { get } from "../api.js";
import { number } from "../format.js";
import { Resource } from "../resource.js";
import { h } from "../ui.js";

const PAGE = 50;
/** What one page of a browser is to hold. Who looks for more asks for less of it, by a filter. */
const MOST = 500;

export class Newest extends Resource {
  #wanted = PAGE;

  /**
   * @param {string} path
   * @param {Record<string, string>} query
   * @param {object} how
   * @param {() => number} [how.everyMs]
   */
  constructor(path, query, { everyMs } = {}) {
    super({
      load: (signal) => get(path, { ...query, limit: this.#wanted }, signal),
      concerns: (event) => event.type.startsWith("job."),
      // The longer, the less often.
      restMs: () => 10 * this.#wanted,
      everyMs,
    });
  }

  /** Whether it may be made longer. */
  get grows() {
    return this.#wanted < MOST;
  }

  /** Show a page more. */
  more() {
    this.#wanted += PAGE;
    this.refreshNow();
  }

  /** @param {number} shown - whether a longer list is on its way */
  growing(shown) {
    return shown < this.#wanted && !this.error;
  }
}

/** The end of such a list. Props: `list`, `shown` (how many), `words` (which these are), `next` (whether there are more). */
export function ListEnd({ list, shown, words, next }) {
  const growing = list.growing(shown);
  // Not `disabled`, which would take the keyboard away from it.
  const more = () => growing || list.more();
  return h(
    "p",
    { class: "more" },
    `${words}${next ? "" : ": these are all"}. `,
    next && list.grows && h("button", { type: "button", "aria-disabled": growing, onClick: more }, growing ? "Loading…" : "Load more"),
    next && !list.grows && `No more than ${number(MOST)} are shown here: choose fewer above, or ask the API for the rest.`,
  );
}
