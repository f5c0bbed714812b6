/** Groups recordings by show: the files that one broadcast left. */

/** A file. start: a time that `Date` reads. @typedef {{channel: string, kind: string, key: string, start: string | number, seconds: number | null}} Kept */

/**
 * items: newest first. key: of the oldest item, which stays when the show grows.
 * @template {Kept} T
 * @typedef {{key: string, items: T[]}} Show
 */

const GAP = 120; // seconds between two files of one show, for example while the encoder reconnects

/**
 * @template {Kept} T
 * @param {readonly T[]} items  newest first, of any channels
 * @returns {Show<T>[]} in the order of their newest items. A snapshot or clip is a show of its own.
 */
export function shows(items) {
  /** @type {Show<T>[]} */
  const found = [];
  /** @type {Map<string, Show<T>>} the last show of each channel and kind */
  const last = new Map();
  for (const item of items) {
    const source = `${item.channel} ${item.kind}`;
    const show = last.get(source);
    const newer = show?.items.at(-1);
    if (show && newer && item.kind === "video" && gap(item, newer) <= GAP) {
      show.items.push(item);
      show.key = item.key;
    } else {
      const started = { key: item.key, items: [item] };
      last.set(source, started);
      found.push(started);
    }
  }
  return found;
}

/** @param {Kept} older @param {Kept} newer @returns {number} seconds between the end of one and the start of the other */
const gap = (older, newer) => (Number(new Date(newer.start)) - Number(new Date(older.start))) / 1000 - (older.seconds ?? 0);
