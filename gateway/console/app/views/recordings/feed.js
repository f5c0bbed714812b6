/** One idea: the recordings of one channel or of all, newest first, a page at a time. */

import { api, ApiError } from "../../api.js";

/** @typedef {"video" | "ondemand" | "motion" | "image"} Kind */

/**
 * A recording as the API lists it.
 * @typedef {object} Kept
 * @property {string} key
 * @property {Kind} kind
 * @property {string} start
 * @property {number | null} seconds
 * @property {number} size
 * @property {string} url
 * @property {string | null} poster
 */

/** @typedef {Kept & {channel: string, path: string}} Recording  path: below the channel's own folder */

const AT_ONCE = 6; // questions to the gateway

/** One channel's recordings, fetched as far as somebody looks. */
class Source {
  /** @type {Recording[]} */
  ready = [];
  #before = "";
  #end = false;

  /** @param {string} channel @param {readonly Kind[]} kinds @param {number} size */
  constructor(channel, kinds, size) {
    this.channel = channel;
    this.kinds = kinds;
    this.size = size;
  }

  get wanting() { return !this.#end && this.ready.length === 0; }

  async fill() {
    const query = new URLSearchParams({ kind: this.kinds.join(","), limit: String(this.size) });
    if (this.#before) query.set("before", this.#before);
    /** @type {Kept[]} */
    let found;
    try {
      found = await api.get(`/videostream/${encodeURIComponent(this.channel)}/recordings?${query}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      found = []; // the channel was deleted meanwhile
    }
    this.#end = found.length < this.size;
    this.#before = found.at(-1)?.key ?? "";
    const own = `${this.channel}/`;
    this.ready = found.map((kept) => ({ ...kept, channel: this.channel, path: kept.key.slice(own.length) }));
  }
}

/** Merges what channels have by time, so that paging through all of them is one list. */
export class Feed {
  #sources;
  #size;

  /**
   * @param {readonly string[]} channels
   * @param {readonly Kind[]} kinds
   * @param {number} size  of a page
   */
  constructor(channels, kinds, size) {
    this.#size = size;
    // With many channels most of a page would be fetched for nothing.
    const each = channels.length > 4 ? Math.max(4, Math.ceil(size / 4)) : size;
    this.#sources = channels.map((channel) => new Source(channel, kinds, each));
  }

  /** @returns {boolean} whether there may be more */
  get more() { return this.#sources.some((source) => source.wanting || source.ready.length > 0); }

  /** @returns {Promise<Recording[]>} the next page; a channel that was deleted meanwhile has none */
  async next() {
    /** @type {Recording[]} */
    const page = [];
    while (page.length < this.#size) {
      await this.#fill();
      const first = newest(this.#sources);
      if (first === null) break;
      page.push(/** @type {Recording} */ (first.ready.shift()));
    }
    // So that `more` tells the truth to whoever offers the next page.
    await this.#fill();
    return page;
  }

  async #fill() {
    const empty = this.#sources.filter((source) => source.wanting);
    for (let at = 0; at < empty.length; at += AT_ONCE) {
      await Promise.all(empty.slice(at, at + AT_ONCE).map((source) => source.fill()));
    }
  }
}

/**
 * @param {readonly Source[]} sources
 * @returns {Source | null}
 */
function newest(sources) {
  /** @type {Source | null} */
  let best = null;
  for (const source of sources) {
    const [own] = source.ready;
    const [other] = best?.ready ?? [];
    if (own && (!other || own.start > other.start)) best = source;
  }
  return best;
}
