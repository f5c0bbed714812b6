/** Loads the recordings of one channel or of all, newest first, page by page. */

import { api, ApiError } from "../../../players/api.js";

/** @typedef {"video" | "ondemand" | "clip" | "motion" | "image"} Kind */

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
 * @property {string} title          of a session; "": that of the channel
 * @property {boolean} hidden        of a session
 * @property {string | null} page    of a session that is not hidden
 * @property {string | null} until   when its age deletes it; null: never
 */

/**
 * path: below the channel's folder. deleted: the channel was deleted.
 * @typedef {Kept & {channel: string, path: string, deleted: boolean}} Recording
 */

/** @param {Recording} item */
export const deleteRecording = (item) => api.delete(item.deleted
  ? `/media?${new URLSearchParams({ channel: item.channel, key: item.key })}`
  : `/videostream/${encodeURIComponent(item.channel)}/recordings/${item.path.split("/").map(encodeURIComponent).join("/")}`);

const AT_ONCE = 6; // most requests to the gateway at the same time

/** One channel's recordings, loaded only as far as needed. */
class Source {
  /** @type {Recording[]} */
  ready = [];
  #before = "";
  #end = false;

  /**
   * @param {string} channel
   * @param {readonly Kind[]} kinds
   * @param {number} size
   * @param {boolean} deleted
   * @param {string} before  a time; "": now
   */
  constructor(channel, kinds, size, deleted, before) {
    this.#before = deleted ? "" : before; // the media of deleted channels are listed by key only
    this.channel = channel;
    this.deleted = deleted;
    this.kinds = kinds;
    this.size = size;
  }

  get wanting() { return !this.#end && this.ready.length === 0; }

  async fill() {
    const query = new URLSearchParams({ kind: this.kinds.join(","), limit: String(this.size) });
    if (this.#before) query.set("before", this.#before);
    if (this.deleted) query.set("channel", this.channel);
    const path = this.deleted ? "/media" : `/videostream/${encodeURIComponent(this.channel)}/recordings`;
    /** @type {Kept[]} */
    let found;
    try {
      found = await api.get(`${path}?${query}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      found = []; // the channel was deleted meanwhile
    }
    this.#end = found.length < this.size;
    this.#before = found.at(-1)?.key ?? "";
    const own = `${this.channel}/`;
    this.ready = found.map((kept) => ({ ...kept, channel: this.channel, path: kept.key.slice(own.length), deleted: this.deleted }));
  }
}

/** Merges the recordings of several channels by time into one list. */
export class Feed {
  #sources;
  #size;

  /**
   * @param {readonly string[]} channels
   * @param {readonly Kind[]} kinds
   * @param {number} size  of a page
   * @param {ReadonlySet<string>} [deleted]  those of the channels that were deleted
   * @param {string} [before]  a time: only older recordings
   */
  constructor(channels, kinds, size, deleted = new Set(), before = "") {
    this.#size = size;
    // With many channels, most of a full page of each would not be used.
    const each = channels.length > 4 ? Math.max(4, Math.ceil(size / 4)) : size;
    this.#sources = channels.map((channel) => new Source(channel, kinds, each, deleted.has(channel), before));
  }

  /** @returns {boolean} whether there may be more */
  get more() { return this.#sources.some((source) => source.wanting || source.ready.length > 0); }

  /** @returns {Promise<Recording[]>} the next page; a channel that was deleted meanwhile has no recordings */
  async next() {
    /** @type {Recording[]} */
    const page = [];
    while (page.length < this.#size) {
      await this.#fill();
      const first = newest(this.#sources);
      if (first === null) break;
      page.push(/** @type {Recording} */ (first.ready.shift()));
    }
    // So that `more` is correct after this page.
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
