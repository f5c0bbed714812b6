/** Formats figures. */

import { speaks } from "../players/language.js";
import { t } from "./words.js";

/** @param {number} bits  per second */
export function bitrate(bits) {
  const [n, unit] = bits >= 1e6 ? [bits / 1e6, "Mbit/s"] : [bits / 1e3, "kbit/s"];
  return `${n.toLocaleString(speaks(), { maximumFractionDigits: bits >= 1e6 ? 1 : 0 })} ${unit}`;
}

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** @param {number} seconds */
export const fine = (seconds) => `${seconds.toLocaleString(speaks(), { maximumFractionDigits: 1, minimumFractionDigits: 1 })} s`;

/** @param {number} n */
export const perSecond = (n) => t("facts.persecond", { n: Math.round(n) });

/** @param {number} n  of 1 */
export const share = (n) => n.toLocaleString(speaks(), { style: "percent", maximumFractionDigits: 1 });

/** @param {number} seconds */
export const milliseconds = (seconds) => `${Math.round(seconds * 1000).toLocaleString(speaks())} ms`;
