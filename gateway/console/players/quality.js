/** One idea: which qualities a viewer may choose, at which address each is, and what they are called. */

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Quality} Quality */
/** @typedef {import("./types.js").Status} Status */

export const AUTO = "auto";
export const SOURCE = "source";

/**
 * What the menu shows.
 * @typedef {{id: string, height: number, bitrate: number}} Choice
 */

/**
 * @param {Format} format
 * @param {Status} status
 * @returns {Address[]} the format's own address first
 */
export function addresses(format, status) {
  return [{ id: SOURCE, file: format.media, bitrate: 0 }, ...format.others?.(status) ?? []];
}

/**
 * Where to begin with what the viewer wants: its own address, one that offers it among others, or the format's own.
 * @param {Address[]} known
 * @param {string} wanted
 * @returns {Address}
 */
export function addressFor(known, wanted) {
  const own = known.find((a) => a.id === wanted);
  const several = known.find((a) => a.id === AUTO);
  const first = /** @type {Address} */ (known[0]);
  return own ?? (wanted === SOURCE ? first : several ?? first);
}

/**
 * The choices there are, the best first; AUTO stands before them where something chooses by itself.
 * @param {Address[]} known
 * @param {Address} open      the one that plays
 * @param {Quality[]} levels  what it offers
 * @returns {Choice[]}        empty where there is nothing to choose
 */
export function choices(known, open, levels) {
  const auto = levels.length > 1 || known.some((a) => a.id === AUTO);
  /** @type {Map<string, Choice>} */
  const all = new Map();
  for (const { id, bitrate } of known) if (id !== AUTO) all.set(id, { id, height: heightOf(id), bitrate });
  // The format's own address offers the renditions by itself: then "source" is one of its levels, or what plays there.
  if (open.id === SOURCE && levels.length > 1) all.delete(SOURCE);
  for (const level of levels) all.set(level.id, level);
  if (all.size < 2) return [];
  const best = [...all.values()].sort((a, b) => rank(b) - rank(a) || b.bitrate - a.bitrate);
  return auto ? [{ id: AUTO, height: 0, bitrate: 0 }, ...best] : best;
}

/**
 * @param {string} id  a rendition's name
 * @returns {number}   its height where the name says it ("720p"), else 0
 */
export function heightOf(id) {
  return Number(/^(\d{2,4})p/.exec(id)?.[1] ?? 0);
}

/** @param {Choice} choice */
function rank(choice) { return choice.id === SOURCE ? Infinity : choice.height || heightOf(choice.id); }
