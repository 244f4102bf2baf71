/** What is said to screen readers, politely; the same words are shown for a moment to everybody else. */

import { Value } from "./value.js";

const SHOWN_MS = 6_000;
let timer = 0;

/** @type {Value<{text: string, fault: boolean, seen: boolean}>} */
export const notice = new Value({ text: "", fault: false, seen: false });

/**
 * @param {string} text
 * @param {{fault?: boolean, seen?: boolean}} [how] - `seen`: shown, too, because nothing else on the page tells it
 */
export function say(text, { fault = false, seen = false } = {}) {
  clearTimeout(timer);
  notice.set({ text, fault, seen });
  timer = setTimeout(() => notice.set({ text: "", fault: false, seen: false }), SHOWN_MS);
}
