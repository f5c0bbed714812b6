/** Finds the show of a channel to which an event or a recording belongs. */

import { instant } from "../../format.js";

/** The used fields of a show. end: null while it lasts. @typedef {{id: string, start: string, end: string | null, title: string}} Show */
/** @typedef {import("./events.js").EventRow} EventRow */

export const MOST = 500;  // shows of a channel that the gateway keeps
const BEFORE = 5_000;     // ms from the connection of an encoder to the first picture
const AFTER = 2_000;      // ms from the stored end of a show, which is rounded, to its last event

/**
 * @param {readonly Show[]} shows
 * @param {number} time  ms since 1970
 * @param {{before?: number, after?: number}} [slack]  ms that the time may be outside of the show
 * @returns {Show | undefined}
 */
export const showAt = (shows, time, { before = 0, after = 0 } = {}) => shows.find(({ start, end }) =>
  time >= Number(instant(start)) - before && time <= (end === null ? Infinity : Number(instant(end)) + after));

/**
 * Groups the events of one channel by show.
 * @param {readonly EventRow[]} rows  newest first
 * @param {readonly Show[]} shows
 * @returns {{key: string, show: Show | undefined, rows: EventRow[]}[]}  newest first; without a show: between two, or before the first
 */
export function byShow(rows, shows) {
  /** @type {Map<string, {key: string, show: Show | undefined, rows: EventRow[]}>} */
  const groups = new Map();
  let last = "";
  for (const row of rows) {
    const { time, type, data } = row.event;
    const at = type === "recording.ready" && data["start"] ? data["start"] * 1000 : Number(instant(time));
    const show = showAt(shows, at, type.endsWith(".started") ? { before: BEFORE }
      : type.startsWith("channel.") ? {} : { after: AFTER });
    if (show) last = show.id;
    const key = show?.id ?? `after ${last}`;
    const group = groups.get(key) ?? { key, show, rows: [] };
    group.rows.push(row);
    groups.set(key, group);
  }
  return [...groups.values()];
}
