/** The qualities that a viewer can choose, their addresses and their names. */

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Quality} Quality */
/** @typedef {import("./types.js").Status} Status */

export const AUTO = "auto";
export const SOURCE = "source";

/**
 * An entry of the menu.
 * @typedef {{id: string, width?: number, height: number, bitrate: number}} Choice
 */

/**
 * @param {Format} format
 * @param {Status} status
 * @returns {Address[]} that of the source first: the format's own one, unless `others` has another one
 */
export function addresses(format, status) {
  const all = [{ id: SOURCE, file: format.media, bitrate: 0 }, ...format.others?.(status) ?? []];
  return [...new Map(all.map((address) => [address.id, address])).values()];
}

/**
 * Returns the address for the wanted quality: its own one, one with several qualities, or the format's own.
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
 * Returns the choices, the best first; AUTO comes before them if the quality can be chosen automatically.
 * @param {Address[]} known
 * @param {Address} open      the one that plays
 * @param {Quality[]} levels  of this address
 * @returns {Choice[]}        empty if there is no choice
 */
export function choices(known, open, levels) {
  const auto = levels.length > 1 || known.some((a) => a.id === AUTO);
  /** @type {Map<string, Choice>} */
  const all = new Map();
  for (const { id, width, height, bitrate } of known) {
    if (id !== AUTO) all.set(id, { id, width: width ?? 0, height: height || heightOf(id), bitrate });
  }
  // If the format's own address has the renditions, "source" is one of its levels.
  if (open.id === SOURCE && levels.length > 1) all.delete(SOURCE);
  for (const level of levels) all.set(level.id, level);
  if (all.size < 2) return [];
  const best = [...all.values()].sort((a, b) => rank(b) - rank(a) || b.bitrate - a.bitrate);
  return auto ? [{ id: AUTO, height: 0, bitrate: 0 }, ...best] : best;
}

/**
 * @param {string} id  a rendition's name
 * @returns {number}   its height if the name contains it ("720p"), else 0
 */
export function heightOf(id) {
  return Number(/^(\d{2,4})p/.exec(id)?.[1] ?? 0);
}

/**
 * Returns the name to show: the real height if the picture is smaller than its name says ("720p": 1280 × 720).
 * @param {Choice} choice
 */
export function nameOf({ id, width = 0, height }) {
  const named = heightOf(id);
  const isSmaller = width > 0 && height > 0 && height < named && width < Math.floor(named * 16 / 9);
  return isSmaller ? id.replace(/^\d+/, String(height)) : id;
}

/** @param {Choice} choice */
function rank(choice) { return choice.id === SOURCE ? Infinity : choice.height || heightOf(choice.id); }
