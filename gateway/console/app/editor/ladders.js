/** The ladders of the gateway: which renditions a channel can have, by height and rate. */

import { signal } from "@preact/signals";

import { api } from "../../players/api.js";
import { RUNGS } from "../channel.js";
import { bitrate } from "../format.js";
import { hasWords, t } from "../i18n.js";
import { once } from "../once.js";

/** @typedef {{name: string, flag: string, width: number, height: number, bitrate: number}} Rung  bitrate: of the video, bits a second */
/** @typedef {{name: string, rungs: Rung[]}} Ladder  rungs: from the smallest to the largest */

const STANDARD = "standard"; // of a channel that names none
export const RECOMMENDED = "recommended"; // with the bit rates of today

/** Empty until `loadLadders` has settled. */
const ladders = signal(/** @type {Ladder[]} */ ([]));

/** Settles when the ladders are known. */
export const loadLadders = once(async () => { ladders.value = await api.get("/ladders"); });

/** @param {string} name  as the channel has it; "": it names none @returns {Ladder | undefined} */
const ladderOf = (name) => ladders.value.find((one) => one.name === (name || STANDARD));

/** @param {Rung} rung @returns {string} its height and rate, such as "720p · 1.0 Mbit/s" */
const said = (rung) => `${rung.height}p · ${bitrate(rung.bitrate)}`;

/** @param {string} name  of a ladder @returns {string} its name and its renditions */
function labelOf(name) {
  const ladder = ladderOf(name);
  const label = hasWords(`ladder.${name}`) ? t(`ladder.${name}`) : name;
  return ladder ? `${label} (${ladder.rungs.map(said).join(", ")})` : label;
}

/** @param {string} value  of the channel @returns {{value: string, label: string}[]} what can be chosen, and `value` itself */
export function choices(value) {
  const names = ladders.value.map((one) => one.name).filter((name) => name !== STANDARD);
  const all = ["", ...names, ...(value === "" || names.includes(value) ? [] : [value])];
  return all.map((one) => ({ value: one, label: labelOf(one || STANDARD) }));
}

/**
 * Returns what a rendition of the channel's ladder is: label and hint of its switch. null: the ladder has none with this flag.
 * @param {string} name @param {string} flag
 * @returns {{label: string, hint: string} | null}
 */
export function renditionOf(name, flag) {
  const ladder = ladderOf(name);
  if (!ladder) return { label: t(`field.${flag}`), hint: t(`field.${flag}.hint`) };
  const rungs = ladder.rungs.filter((rung) => rung.flag === flag);
  return rungs.length ? { label: rungs.map((rung) => `${rung.height}p`).join(" + "),
    hint: rungs.map((rung) => `${rung.width} × ${rung.height} · ${bitrate(rung.bitrate)}`).join(", ") } : null;
}

/** @param {string} name @returns {string} the renditions that a channel with this ladder always has */
export const always = (name) => (ladderOf(name)?.rungs ?? []).filter((rung) => !RUNGS.includes(rung.flag)).map(said).join(", ");
