/** Numbers, durations, sizes and times as people read them. The page is in English, so its formats are, too. */

const LOCALE = navigator.languages?.find((name) => name.toLowerCase().startsWith("en")) ?? "en-GB";

/** What stands for a figure that there is not. */
export const NOTHING = "–";

const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 });
const tenths = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto", style: "short" });
const exact = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });
const clockTime = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium", hourCycle: "h23" });
const minuteTime = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayTime = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short" });

const units = new Map();

/** @param {number} value @param {string} name @param {number} digits */
function unit(value, name, digits = 0) {
  const key = `${name} ${digits}`;
  if (!units.has(key)) {
    const style = { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: digits };
    units.set(key, new Intl.NumberFormat(LOCALE, style));
  }
  return units.get(key).format(value);
}

/** @param {number | null | undefined} value - 12,345 */
export const number = (value) => (value == null ? NOTHING : whole.format(value));

/** @param {number | null | undefined} value - 12,345 up to 99,999; then 1.2M */
export const short = (value) => (value == null ? NOTHING : value < 100_000 ? whole.format(value) : compact.format(value));

/** @param {number | null | undefined} value - tokens a second: 41.3 */
export const rate = (value) => (value == null ? NOTHING : value < 100 ? tenths.format(value) : whole.format(value));

/**
 * A count with its noun: `1 job`, `2 jobs`.
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** @param {number | null | undefined} seconds - 0s, 420ms, 3.2s, 1m 12s, 2h 5m, 3d 4h */
export function duration(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds <= 0) return unit(0, "second");
  if (seconds < 0.9995) return unit(Math.max(1, Math.round(seconds * 1_000)), "millisecond");
  if (seconds < 9.95) return unit(seconds, "second", 1);
  const all = Math.round(seconds);
  if (all < 60) return unit(all, "second");
  const parts = [
    ["day", Math.floor(all / 86_400)],
    ["hour", Math.floor((all % 86_400) / 3_600)],
    ["minute", Math.floor((all % 3_600) / 60)],
    ["second", all % 60],
  ];
  const first = parts.findIndex(([, value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([, value]) => value > 0)
    .map(([name, value]) => unit(value, name))
    .join(" ");
}

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/** @param {number | null | undefined} bytes - 812byte, 1.4kB, 2GB */
export function size(bytes) {
  if (bytes == null) return NOTHING;
  if (bytes < 1_000) return count(bytes, "byte");
  const power = Math.min(SIZES.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1_000 ** power;
  const digits = value < 100 ? 1 : 0;
  return new Intl.NumberFormat(LOCALE, {
    style: "unit",
    unit: SIZES[power],
    unitDisplay: "short",
    maximumFractionDigits: digits,
  }).format(value);
}

/** @param {string | number} at - `3 min. ago`, `in 2 hr.` @param {number} now - milliseconds since 1970 */
export function ago(at, now) {
  const seconds = (new Date(at).getTime() - now) / 1_000;
  const away = Math.abs(seconds);
  if (away < 5) return "just now";
  if (away < 60) return relative.format(Math.trunc(seconds), "second");
  if (away < 3_600) return relative.format(Math.trunc(seconds / 60), "minute");
  if (away < 86_400) return relative.format(Math.trunc(seconds / 3_600), "hour");
  return relative.format(Math.trunc(seconds / 86_400), "day");
}

/** @param {string | number} at - day, time and zone in full */
export const moment = (at) => exact.format(new Date(at));

/** @param {string | number} at - 14:02:10, with its day if that is not today's @param {number} now */
export function clock(at, now) {
  const date = new Date(at);
  const today = new Date(now).toDateString() === date.toDateString();
  return today ? clockTime.format(date) : `${dayTime.format(date)}, ${clockTime.format(date)}`;
}

/** @param {number} seconds - since 1970, for a chart's axis over so many seconds @param {number} span */
export function tick(seconds, span) {
  const date = new Date(seconds * 1_000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return span > 2 * 86_400 || midnight ? dayTime.format(date) : minuteTime.format(date);
}

/** @param {number} from @param {number} to - seconds since 1970: `14:02–14:04` or `2 May, 14:00–15:00` */
export function span(from, to) {
  const [first, last] = [new Date(from * 1_000), new Date(to * 1_000)];
  const day = first.toDateString() === new Date().toDateString() ? "" : `${dayTime.format(first)}, `;
  return `${day}${minuteTime.format(first)}–${minuteTime.format(last)}`;
}

/** @param {string | null | undefined} name - a model's, as people write it */
export const model = (name) => text(name ?? NOTHING).replace(/:latest$/, "");

/** @param {any} value - of JSON that others wrote, where a text is to be expected */
export const text = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value));
