/** Formats numbers and times for the user's language and time zone. */

import { language } from "./i18n.js";

/** Shown for an unknown value. */
export const NOTHING = "–";

/**
 * Formatters are slow to make and needed in every row, so one of each kind and language is kept.
 * @type {Map<string, Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat>}
 */
const kept = new Map();

/**
 * @template {Intl.NumberFormat | Intl.DateTimeFormat | Intl.RelativeTimeFormat} T
 * @param {string} name
 * @param {(locale: string) => T} make
 * @returns {T}
 */
function formatter(name, make) {
  const locale = localeFor(language.value);
  const key = `${locale} ${name}`;
  const found = kept.get(key) ?? make(locale);
  kept.set(key, found);
  return /** @type {T} */ (found);
}

/**
 * The locale of dates: the page's language as in the viewer's region, which decides between 24 and 12 hours.
 * @param {string} words  the language
 * @param {readonly string[]} preferred  the browser's locales, the best first
 * @returns {string}
 */
export function localeFor(words, preferred = navigator.languages) {
  const [first = words] = preferred;
  try {
    const { region } = new Intl.Locale(first).maximize();
    return region ? `${words}-${region}` : words;
  } catch {
    return words; // the browser of a system with the locale "C" names it, and it is no language tag
  }
}

/**
 * @param {number | null | undefined} n
 * @param {number} [digits]  the most digits after the decimal point
 * @returns {string}
 */
export function number(n, digits = 0) {
  if (n === null || n === undefined || !Number.isFinite(n)) return NOTHING;
  return formatter(`number ${digits}`, (l) => new Intl.NumberFormat(l, { maximumFractionDigits: digits })).format(n);
}

/**
 * Formats with three digits: 9.87, 98.7, 987.
 * @param {number} n
 * @param {number} step  1000 or 1024
 * @param {readonly string[]} units
 * @returns {string}
 */
function scaled(n, step, units) {
  let [value, at] = [n, 0];
  // 999.95 would be printed as 1,000.
  while (Math.abs(value) >= step - 0.05 && at < units.length - 1) [value, at] = [value / step, at + 1];
  const digits = at === 0 || Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
  return `${number(value, digits)}\u00a0${units[at]}`;
}

/**
 * @param {number | null | undefined} n  bytes
 * @returns {string}  "1.24 MB", in steps of 1000 as disks and operating systems show them
 */
export function bytes(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return NOTHING;
  return scaled(n, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]);
}

/**
 * @param {number | null | undefined} n  bits a second
 * @returns {string}  "2.5 Mbit/s"
 */
export function bitrate(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return NOTHING;
  return scaled(n, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

/**
 * @param {number | null | undefined} share  0 to 1
 * @returns {string}
 */
export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return NOTHING;
  return formatter("percent", (l) => new Intl.NumberFormat(l, { style: "percent", maximumFractionDigits: 0 })).format(share);
}

/**
 * Formats a duration.
 * @param {number | null | undefined} seconds
 * @returns {string}  "0:07", "12:34", "1:02:03"
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** @type {readonly (readonly [number, "day" | "hour" | "minute" | "second"])[]} */
const SPANS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

/**
 * Formats a long duration in its two largest units.
 * @param {number | null | undefined} seconds
 * @returns {string}  "3 days 4 hr", "12 min 5 sec"
 */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  let rest = Math.max(0, Math.floor(seconds));
  const words = [];
  for (const [size, unit] of SPANS) {
    if (rest < size && !(unit === "second" && !words.length)) continue;
    const format = formatter(`span ${unit}`, (l) => new Intl.NumberFormat(l, { style: "unit", unit, unitDisplay: "short" }));
    words.push(format.format(Math.floor(rest / size)));
    rest %= size;
    if (words.length === 2) break;
  }
  return words.join(" ");
}

/**
 * @param {number} seconds  small ones
 * @returns {string}  "340 µs", "1.2 ms", "2.5 s"
 */
export function brief(seconds) {
  if (!Number.isFinite(seconds)) return NOTHING;
  if (seconds < 0.0009995) return `${number(seconds * 1e6)}\u00a0µs`;
  if (seconds < 0.9995) return `${number(seconds * 1e3, seconds < 0.0995 ? 1 : 0)}\u00a0ms`;
  return `${number(seconds, 1)}\u00a0s`;
}

/**
 * Parses a time of the API.
 * @param {string | number | Date | null | undefined} when  ISO 8601, or milliseconds since 1970
 * @returns {Date | null}  null if it is not a time
 */
export function instant(when) {
  if (when === null || when === undefined || when === "") return null;
  const date = when instanceof Date ? when : new Date(when);
  return Number.isNaN(date.getTime()) ? null : date;
}

/**
 * @param {string | number | Date | null | undefined} when
 * @param {{seconds?: boolean}} [options]
 * @returns {string}  date and time in the viewer's zone
 */
export function moment(when, { seconds = false } = {}) {
  const date = instant(when);
  if (date === null) return NOTHING;
  return formatter(`moment ${seconds}`, (l) => new Intl.DateTimeFormat(l, {
    dateStyle: "medium", timeStyle: seconds ? "medium" : "short",
  })).format(date);
}

/**
 * @param {string | number | Date | null | undefined} when
 * @returns {string}  the time of day in the viewer's zone, with seconds
 */
export function timeOfDay(when) {
  const date = instant(when);
  if (date === null) return NOTHING;
  return formatter("time", (l) => new Intl.DateTimeFormat(l, { timeStyle: "medium" })).format(date);
}

/**
 * @param {string | number | Date | null | undefined} when
 * @param {number} [now]  milliseconds since 1970
 * @returns {string}  "3 minutes ago", "in 2 days"
 */
export function relative(when, now = Date.now()) {
  const date = instant(when);
  if (date === null) return NOTHING;
  const seconds = (date.getTime() - now) / 1000;
  const [size, unit] = SPANS.find(([s]) => Math.abs(seconds) >= s) ?? [1, "second"];
  const format = formatter("relative", (l) => new Intl.RelativeTimeFormat(l, { numeric: "auto" }));
  return format.format(Math.trunc(seconds / size), unit);
}

/** @param {string} day  such as 2026-11-26 @returns {string}  the date, in no zone */
export function dayName(day) {
  return formatter("day", (l) => new Intl.DateTimeFormat(l, { dateStyle: "medium", timeZone: "UTC" })).format(new Date(`${day}T00:00Z`));
}

/** @returns {string}  the viewer's zone, "Europe/Berlin" */
export function zone() {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}
