/** Remembers in this browser how far the viewer has watched each video. */

import { keep, recall } from "../players/memory.js";

const NAME = "video.positions";
const MOST = 50; // videos; the oldest one is forgotten
const MIN_SECONDS = 10; // a position before it is not kept …
const END_SECONDS = 10; // … nor one so close to the end

/** @returns {[string, number][]}  the oldest first */
function stored() {
  try {
    const found = JSON.parse(recall(NAME) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && typeof one[1] === "number") : [];
  } catch {
    return []; // not in our format: starts with an empty list
  }
}

/** @param {string} path  of the page @returns {number} seconds; 0: from the beginning */
export function recallPosition(path) { return stored().find(([known]) => known === path)?.[1] ?? 0; }

/** @param {string} path  of the page @param {number} at  seconds @param {number} length  seconds */
export function keepPosition(path, at, length) {
  const others = stored().filter(([known]) => known !== path);
  const useful = at >= MIN_SECONDS && at < length - END_SECONDS;
  keep(NAME, JSON.stringify(useful ? [...others, [path, Math.floor(at)]].slice(-MOST) : others));
}
