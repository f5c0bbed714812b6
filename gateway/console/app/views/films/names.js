/** One idea: how films were called where they came from: the store knows them by keys that say nothing. */

import { keep, recall } from "../../../players/memory.js";

const KEY = "films.names";
const MOST = 300;

/** @returns {[string, string][]}  the oldest first */
function stored() {
  try {
    const found = JSON.parse(recall(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && one.length === 2) : [];
  } catch {
    return []; // written by something else: begun anew
  }
}

/**
 * @param {string} key   under which the film is stored
 * @param {string} name  of its file
 */
export function learn(key, name) {
  keep(KEY, JSON.stringify([...stored().filter(([known]) => known !== key), [key, name]].slice(-MOST)));
}

/**
 * @param {string} source  of a job
 * @returns {string}  the film's name as this browser knows it, else the last part of where it lies
 */
export function title(source) {
  const last = source.split("/").filter(Boolean).at(-1) ?? source;
  return stored().find(([key]) => key === last)?.[1] ?? last;
}
