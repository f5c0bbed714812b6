/** A list of the API, newest first: its first page is polled, older pages are loaded when they are wanted. */

import { useRef, useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { usePoll } from "../../poll.js";
import { attempt } from "./trouble.js";

/**
 * The rows so far. more: whether there are older ones; null: no older page was loaded.
 * @template T
 * @typedef {{path: string, rows: readonly T[], more: boolean | null}} Listed
 */

/**
 * @template T
 * @typedef {object} Pages
 * @property {readonly T[] | null} rows  null while the first page is loaded
 * @property {readonly T[] | null} first  the first page
 * @property {Error | null} error
 * @property {boolean} more  whether there may be older rows
 * @property {boolean} busy  whether older rows are being loaded
 * @property {() => Promise<void>} load  loads the next page
 * @property {(key: string, row: T | null) => void} change  shows a changed row; null: it was deleted
 */

/**
 * @template T
 * @param {string} path  with a query that has the limit
 * @param {{size: number, every: number, keyOf: (row: T) => string, most?: number}} options  size: rows of a page.
 *   every: ms between two polls. keyOf: returns what the API takes as `before`. most: rows that are kept
 * @returns {Pages<T>}
 */
export function usePages(path, { size, every, keyOf, most = Infinity }) {
  /** @type {import("../../poll.js").PolledSignal<T[]>} */
  const polled = usePoll(path, every);
  const list = useRef(/** @type {Listed<T>} */ ({ path, rows: [], more: null }));
  const [busy, setBusy] = useState(false);
  if (list.current.path !== path) list.current = { path, rows: [], more: null };
  const own = list.current;
  const { data: first, error } = polled.value;
  if (first !== null) {
    const tail = after(own.rows, first, keyOf);
    if (tail === null) own.more = null;
    own.rows = [...first, ...tail ?? []].slice(0, most);
  }

  const load = async () => {
    const [last] = own.rows.slice(-1);
    if (busy || last === undefined) return;
    setBusy(true);
    await attempt(async () => {
      /** @type {T[]} */
      const page = await api.get(`${path}&before=${encodeURIComponent(keyOf(last))}`);
      // The list may have begun anew meanwhile; then there would be a gap before this page.
      const [still] = own.rows.slice(-1);
      if (still === undefined || keyOf(still) !== keyOf(last)) return;
      own.rows = [...own.rows, ...page];
      own.more = page.length === size;
    });
    setBusy(false);
  };
  const change = (/** @type {string} */ key, /** @type {T | null} */ row) => {
    const changed = (/** @type {readonly T[]} */ rows) => rows.flatMap((one) => (keyOf(one) !== key ? [one] : row ? [row] : []));
    own.rows = changed(own.rows);
    const now = polled.peek();
    polled.value = { ...now, data: now.data && changed(now.data) };
  };
  const more = (own.more ?? first?.length === size) && own.rows.length < most;
  return { rows: first && own.rows, first, error, more, busy, load, change };
}

/**
 * Returns the rows that follow the first page. New rows push others out of it, which stay in the list.
 * @template T
 * @param {readonly T[]} rows  of the list so far
 * @param {readonly T[]} first
 * @param {(row: T) => string} keyOf
 * @returns {T[] | null}  null if the list does not go on from there: more than a page is new
 */
function after(rows, first, keyOf) {
  const last = first.at(-1);
  const at = last === undefined ? -1 : rows.findIndex((row) => keyOf(row) === keyOf(last));
  if (at < 0) return null;
  const shown = new Set(first.map(keyOf));
  return rows.slice(at + 1).filter((row) => !shown.has(keyOf(row)));
}
