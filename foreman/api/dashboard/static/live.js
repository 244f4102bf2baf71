/**
 * What keeps the page current: the feed tells which of the answers on show are stale, and those are asked for again.
 * While nobody looks at the tab nothing is asked at all; a browser has six connections for all tabs of a host.
 */

import { beat } from "./clock.js";
import { Feed } from "./feed.js";
import { locked } from "./token.js";

/** @type {Set<import("./resource.js").Resource>} */
const shown = new Set();
/** A second that took this long was slept through, and no connection of before can be trusted. */
const ASLEEP_MS = 10_000;

export const feed = new Feed(
  (event) => {
    for (const resource of shown) if (resource.concerns(event)) resource.refresh();
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

/** Ask anew for all that is on show. */
export function refreshAll() {
  for (const resource of shown) resource.refresh();
}

/** Begin, and from then on follow the tab's visibility, the lock, and the computer's sleep. */
export function start() {
  let seen = Date.now();
  const follow = () => {
    seen = Date.now();
    if (awake()) feed.start();
    else feed.stop();
  };
  document.addEventListener("visibilitychange", follow);
  locked.watch(follow);
  follow();
  beat.watch(() => {
    const passed = Date.now() - seen;
    seen = Date.now();
    if (passed > ASLEEP_MS) feed.restart();
  });
}
