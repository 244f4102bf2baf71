/** Which page the address names: `#/jobs/<id>?state=failed`. Links can be shared, and the back button works. */

import { Value } from "./value.js";

/** @typedef {{path: string, parts: string[], query: URLSearchParams}} Route */

/** @returns {Route} */
function read() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path, parts: path.split("/").map(decoded).filter(named), query: new URLSearchParams(query) };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @param {string} part - not of dots alone: in the path of a request these would lead to another route */
const named = (part) => !/^\.{0,2}$/.test(part);

/** @type {Value<Route>} */
export const route = new Value(read());
window.addEventListener("hashchange", () => route.set(read()));

/**
 * @param {string} path - `jobs/01ABC`, empty for the first page
 * @param {Record<string, string | null | undefined>} [query] - what is empty is left out
 */
export function href(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/**
 * Go to a page.
 * @param {string} path
 * @param {Record<string, string | null | undefined>} [query]
 * @param {{replace?: boolean}} [how] - `replace` leaves no step for the back button
 */
export function go(path, query = {}, { replace = false } = {}) {
  if (!replace) {
    location.hash = href(path, query);
    return;
  }
  history.replaceState(null, "", href(path, query));
  route.set(read());
}
