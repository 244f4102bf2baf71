/**
 * What keeps the page current: the feed tells which of the answers on show are stale, and those are asked for again.
 * While nobody looks at the tab nothing is asked at all; a browser has six connections for all tabs of a host.
 */

import { Feed } from "./feed.js";
import { locked } from "./token.js";

/** @type {Set<import("./resource.js").Resource>} */
const shown = new Set();
const listeners = new Set();

export const feed = new Feed(
  (event) => {
    for (const resource of shown) if (resource.concerns(event)) resource.refresh();
    for (const listener of listeners) listener(event);
  },
  () => refreshAll(),
);

/** @returns {boolean} whether anybody looks and may */
export const awake = () => !document.hidden && !locked.get();

/** @param {import("./resource.js").Resource} resource - is on show from now on */
export function show(resource) {
  shown.add(resource);
  return () => shown.delete(resource);
}

/** @param {(event: import("./feed.js").LogEvent) => void} listener */
export function onEvent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Ask anew for all that is on show. */
export function refreshAll() {
  for (const resource of shown) resource.refresh();
}

/** Begin, and from then on follow the tab's visibility and the lock. */
export function start() {
  const follow = () => (awake() ? feed.start() : feed.stop());
  document.addEventListener("visibilitychange", follow);
  locked.watch(follow);
  follow();
}
