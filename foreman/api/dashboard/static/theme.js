/** Light or dark: the system's choice until the reader makes one. `early.js` applies a kept choice before the first paint. */

import { local } from "./storage.js";
import { Value } from "./value.js";

const KEY = "foreman.theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const chosen = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");

/** @type {Value<string>} */
export const theme = new Value(chosen());
system.addEventListener("change", () => theme.set(chosen()));

/** Change to the other one; back at the system's own, the choice is given up again. */
export function toggle() {
  const wanted = theme.get() === "dark" ? "light" : "dark";
  if (wanted === (system.matches ? "dark" : "light")) {
    delete document.documentElement.dataset.theme;
    local.remove(KEY);
  } else {
    document.documentElement.dataset.theme = wanted;
    local.set(KEY, wanted);
  }
  theme.set(wanted);
}
