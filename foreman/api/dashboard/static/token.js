/** The token that foreman asks for, if one is set: where it is kept, and whether the page is locked for want of it. */

import { local, session } from "./storage.js";
import { Value } from "./value.js";

const KEY = "foreman.token";

let token = session.get(KEY) ?? local.get(KEY) ?? "";

/** Whether foreman has refused the page for want of the right token. */
export const locked = new Value(false);

/** Whether there is a token to forget. */
export const held = new Value(token !== "");

/** @returns {string} the token, or an empty text */
export const current = () => token;

/**
 * Use this token from now on. It is in memory alone until foreman has taken it.
 * @param {string} given
 */
export function use(given) {
  token = given;
}

/**
 * Keep the token in use: for this tab, or on this device.
 * @param {boolean} remember
 */
export function keep(remember) {
  forgetStored();
  if (token) (remember ? local : session).set(KEY, token);
  held.set(token !== "");
}

/** Forget the token and lock the page. */
export function forget() {
  forgetStored();
  token = "";
  held.set(false);
  locked.set(true);
}

/** What another window of this browser does with the token on this device holds here, too. */
window.addEventListener("storage", () => {
  const kept = local.get(KEY);
  if (kept === null && token && session.get(KEY) === null) forget();
  if (kept !== null && locked.get()) {
    token = kept;
    held.set(true);
    locked.set(false);
  }
});

function forgetStored() {
  session.remove(KEY);
  local.remove(KEY);
}
