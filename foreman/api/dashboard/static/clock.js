/** The time as foreman has it, and a beat to redraw by. A browser's clock may be minutes off from the server's. */

import { Value } from "./value.js";

/** An HTTP date has whole seconds, so less than this is no difference. */
const TOLERANCE_MS = 2_000;
let ahead = 0;

/** Seconds since the page was opened; stands still while nobody looks. */
export const beat = new Value(0);
setInterval(() => {
  if (!document.hidden) beat.set(beat.get() + 1);
}, 1_000);

/** @returns {number} milliseconds since 1970 by the server's clock */
export const now = () => Date.now() + ahead;

/**
 * Take the server's time from an answer's `Date` header.
 * @param {string | null} header
 */
export function adjust(header) {
  const difference = Date.parse(header ?? "") - Date.now();
  if (!Number.isNaN(difference)) ahead = Math.abs(difference) > TOLERANCE_MS ? difference : 0;
}
