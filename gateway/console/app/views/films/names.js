/** Remembers the original file names of uploads in this browser, because the store uses random keys. */

import { keep, recall } from "../../../players/memory.js";

const KEY = "films.names";
const MOST = 300;

/** @returns {[string, string][]}  the oldest first */
function stored() {
  try {
    const found = JSON.parse(recall(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && one.length === 2) : [];
  } catch {
    return []; // not in our format: starts with an empty list
  }
}

/**
 * @param {string} key   of the stored object
 * @param {string} name  of its file
 */
export function learn(key, name) {
  keep(KEY, JSON.stringify([...stored().filter(([known]) => known !== key), [key, name]].slice(-MOST)));
}

/**
 * @param {string} source  of a job
 * @returns {string}  the remembered file name, else the last part of the source
 */
export function title(source) {
  const last = source.split("/").filter(Boolean).at(-1) ?? source;
  return stored().find(([key]) => key === last)?.[1] ?? last;
}
