/**
 * How many windows of this browser show the dashboard. All of them together have six connections to foreman, and one that
 * is held for ever in each of six would leave none for questions. Says and hears "here" on a channel of the browser's own.
 */

import { beat } from "./clock.js";
import { Value } from "./value.js";

const MOST_HELD = 5;
/** Seconds between two signs of life, and milliseconds after which a window without one is gone. */
const EVERY_S = 5;
const GONE_MS = 12_000;

/** @type {Value<number>} this one counts */
export const windows = new Value(1);

const channel = new BroadcastChannel("foreman.windows");
const own = crypto.getRandomValues(new Uint32Array(2)).join("-");
/** @type {Map<string, number>} the others, and when each was last heard */
const others = new Map();

const say = (here) => channel.postMessage({ id: own, here });

function count() {
  for (const [id, heard] of others) if (performance.now() - heard > GONE_MS) others.delete(id);
  windows.set(1 + others.size);
}

channel.addEventListener("message", ({ data: { id, here } }) => {
  const known = others.has(id);
  if (here) others.set(id, performance.now());
  else others.delete(id);
  count();
  if (here && !known) say(!document.hidden);
});
document.addEventListener("visibilitychange", () => say(!document.hidden));
window.addEventListener("pagehide", () => say(false));
beat.watch((seconds) => {
  if (seconds % EVERY_S) return;
  say(true);
  count();
});
say(!document.hidden);

/** @returns {number} answers that each window may follow: beside its feed, and so that a connection is left */
export const followable = () => Math.floor(MOST_HELD / windows.get()) - 1;
