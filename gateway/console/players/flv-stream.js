/** Receives an FLV stream in the wanted or fitting quality, and changes the quality at a key frame without a gap. */

import { Adapter, Arrivals, fails, isClose, MOST_TRY } from "./adapter.js";
import { openFlv } from "./flv-connection.js";
import { AUDIO, clockOf, FlvError, FlvTags, isHeader, isKey, isMetadata, VIDEO } from "./flv-tags.js";
import { pageRate } from "./page-rate.js";
import { AUTO, heightOf, SOURCE } from "./quality.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./flv-tags.js").Tag} Tag */
/** @typedef {import("./types.js").Live} Live */
/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {import("./types.js").Quality} Quality */

const LOOK = 250;         // ms between two looks at what arrives
const MOST_HELD = 3;      // seconds to wait for the same key frame of a candidate
const SETTLES = 4;        // seconds until the lag of a failed try has gone
const SLOW_SECONDS = 2;   // for which the smallest quality is too slow before it is said
const CALM_AGAIN = 5;     // seconds without lag until it is no longer said
const HOLE = 300;         // ms without pictures at a change that a player should step over
const MAX_PENDING = 1000; // pieces of sound kept before a key frame

/**
 * @typedef {object} Owner
 * @property {(tags: Tag[]) => void} tags     one stream of tags, whatever the quality
 * @property {(from: number, to: number) => void} hole  media times in ms between which there are no pictures, because the
 *   quality was changed to catch up
 * @property {(why: Outcome["why"], detail: string) => void} ended  not called after `close`
 */

/** One connection. */
class Link {
  arrivals = new Arrivals();
  opened = performance.now() / 1000;
  /** What a player needs before the first key frame. @type {Tag[]} */
  headers = [];
  /** Sound before the next key frame. @type {Tag[]} */
  pending = [];
  hasVideo = true;
  ready = false; // its headers and a key frame have come
  after = -Infinity; // sound up to this time has been delivered by another connection
  #tags; #connection;
  open = true;

  /**
   * @param {string} level
   * @param {string} url
   * @param {number} near  a media time; NaN: unknown
   * @param {{tags: (tags: Tag[], bytes: number) => void, ended: (why: Outcome["why"], detail: string) => void}} on
   */
  constructor(level, url, near, on) {
    this.level = level;
    this.#tags = new FlvTags(near);
    this.#connection = openFlv(url, {
      data: (bytes) => {
        if (!this.open) return;
        try {
          on.tags(this.#tags.push(bytes), bytes.length);
        } catch (error) {
          if (!(error instanceof FlvError)) throw error;
          this.close();
          on.ended("lost", error.message);
        }
      },
      ended: (why, detail) => {
        if (!this.open) return;
        this.open = false;
        on.ended(why, detail);
      },
    });
  }

  close() {
    this.open = false;
    this.#connection.close();
  }
}

/** Use: make one; `quality` at any time; `close` at the end. */
export class FlvStream {
  timeline = new Timeline();
  /** Whether the link is too slow for the smallest quality. */
  slow = false;
  #url; #now; #owner; #live; #timer;
  #adapter = new Adapter();
  #wanted = AUTO;
  /** The qualities, the smallest first. @type {Quality[]} */
  #levels;
  /** Delivers. @type {Link} */
  #current;
  /** Will deliver from a key frame on. isTry: only if the link brings enough. @type {{link: Link, isTry: boolean} | null} */
  #candidate = null;
  /** What the current connection has brought since the key frame at which the candidate may continue.
   * @type {{tags: Tag[], since: number} | null} */
  #held = null;
  #last = { video: -Infinity, audio: -Infinity }; // media times that were delivered
  #open = true;
  #asking = false;
  #slowSince = Infinity;
  #settled = -Infinity;     // until then, the lag is that of a failed try

  /**
   * @param {string} url  of the source
   * @param {() => number} now  the server's clock, ms since 1970
   * @param {Live} live
   * @param {string} wanted  AUTO or a level
   * @param {Owner} owner
   */
  constructor(url, now, live, wanted, owner) {
    this.#url = url;
    this.#now = now;
    this.#live = live;
    this.#owner = owner;
    this.#wanted = wanted;
    this.#levels = levelsOf(live.status);
    const chosen = this.#levels.find(({ id }) => id === wanted)?.id;
    this.#current = this.#link(chosen ?? (wanted === AUTO ? this.#adapter.first(this.#automatic, pageRate()) : SOURCE));
    this.#timer = setInterval(() => this.#look(), LOOK);
  }

  /** The qualities, if there are several. */
  get qualities() { return this.#levels.length > 1 ? this.#levels : []; }

  /** Those that are chosen automatically: none is larger than the source. */
  get #automatic() { return this.#levels.slice(0, this.#levels.findIndex(({ id }) => id === SOURCE) + 1); }

  /** The quality that is delivered. */
  get level() { return this.#current.level; }

  /** @param {string} wanted  AUTO or a level */
  quality(wanted) {
    this.#wanted = wanted;
    if (wanted !== AUTO) this.#change(this.#levels.some(({ id }) => id === wanted) ? wanted : SOURCE, false);
  }

  close() {
    if (!this.#open) return;
    this.#open = false;
    clearInterval(this.#timer);
    this.#current.close();
    this.#candidate?.link.close();
  }

  /** @param {string} level @returns {Link} */
  #link(level) {
    const url = new URL(this.#url);
    if (level !== SOURCE) url.pathname = url.pathname.replace(/[^/]*(?=\/[^/]*$)/, (name) => `${name}${encodeURIComponent(`@${level}`)}`);
    const { video, audio } = this.#last ?? {};
    const near = Math.max(video ?? -Infinity, audio ?? -Infinity);
    /** @type {Link} */
    const link = new Link(level, url.href, Number.isFinite(near) ? near : NaN, {
      tags: (tags, bytes) => this.#receive(link, tags, bytes),
      ended: (why, detail) => this.#ended(link, why, detail),
    });
    return link;
  }

  /** @param {Link} link @param {Tag[]} tags @param {number} bytes */
  #receive(link, tags, bytes) {
    /** @type {number | null} */
    let lag = null;
    const media = tags.filter((tag) => {
      const date = clockOf(tag);
      if (date === null) return true;
      this.timeline.note(tag.time, date);
      lag = (this.#now() - date) / 1000;
      return false;
    });
    link.arrivals.add(performance.now() / 1000, bytes, lag);
    if (link !== this.#current) return this.#prepare(link, media);
    if (this.#held) return void this.#held.tags.push(...media);
    // The candidate may come later by the time of its encoder, so it continues at a key frame that is not delivered yet.
    const at = this.#candidate?.link.ready ? media.findIndex((tag) => link.hasVideo ? isKey(tag) : tag.type === AUDIO) : -1;
    this.#deliver(at < 0 ? media : media.slice(0, at));
    if (at >= 0) this.#held = { tags: media.slice(at), since: performance.now() / 1000 };
  }

  /** Delivers what was held back for a candidate. */
  #release() {
    const { tags = [] } = this.#held ?? {};
    this.#held = null;
    if (tags.length) this.#deliver(tags);
  }

  /** @param {Tag[]} tags */
  #deliver(tags) {
    const { after } = this.#current;
    const wanted = after === -Infinity ? tags : tags.filter((tag) => tag.type !== AUDIO || isHeader(tag) || tag.time > after);
    for (const tag of wanted) {
      if (tag.type === 0) this.#current.hasVideo = hasVideo(tag);
      if (isMetadata(tag)) this.timeline.restart();
      if (tag.type === VIDEO && !isHeader(tag)) this.#last.video = tag.time;
      if (tag.type === AUDIO && !isHeader(tag)) this.#last.audio = tag.time;
    }
    if (wanted.length) this.#owner.tags(wanted);
  }

  /** Waits for the moment at which the candidate can continue. @param {Link} link @param {Tag[]} tags */
  #prepare(link, tags) {
    for (const [index, tag] of tags.entries()) {
      if (!isHeader(tag) && (link.hasVideo ? isKey(tag) : tag.type === AUDIO)) link.ready = true;
      if (tag.type === 0) link.hasVideo = hasVideo(tag);
      else if (isMetadata(tag)) link.headers = [];
      else if (isHeader(tag)) link.headers.push(tag);
      else if (link.hasVideo ? isKey(tag) && tag.time > this.#last.video : tag.type === AUDIO && tag.time > this.#last.audio) {
        if (this.#candidate?.isTry && !isClose(this.#current.arrivals, link.arrivals)) continue;
        return this.#take(link, tag, tags.slice(index));
      } else if (tag.type === AUDIO && link.pending.push(tag) > MAX_PENDING) link.pending.shift();
    }
  }

  /** Continues with the candidate. @param {Link} link @param {Tag} key @param {Tag[]} tags  from the key frame on */
  #take(link, key, tags) {
    const before = this.#last.video;
    const late = !this.#current.open;
    if (this.#candidate?.isTry) this.#adapter.tried(true, performance.now() / 1000);
    this.#current.close();
    this.#candidate = this.#held = null;
    this.#current = link;
    link.after = this.#last.audio;
    const { headers, pending } = link;
    link.headers = link.pending = [];
    this.#deliver([...headers, ...pending, ...tags]);
    if (late && key.type === VIDEO && key.time - before > HOLE) this.#owner.hole(before, key.time);
  }

  /** Goes on without the candidate. */
  #drop() {
    this.#candidate?.link.close();
    this.#candidate = null;
    this.#release();
  }

  /** @param {string} level @param {boolean} isTry */
  #change(level, isTry) {
    if (this.#candidate?.link.level === level && this.#candidate.link.open) {
      this.#candidate.isTry &&= isTry;
      return;
    }
    this.#drop();
    if (level !== this.#current.level || !this.#current.open) this.#candidate = { link: this.#link(level), isTry };
  }

  /** @param {Link} link @param {Outcome["why"]} why @param {string} detail */
  #ended(link, why, detail) {
    if (!this.#open) return;
    const tried = this.#candidate?.link === link;
    if (tried) {
      if (this.#candidate?.isTry) this.#adapter.tried(false, performance.now() / 1000);
      this.#drop();
      if (this.#current.open) return;
    } else if (link !== this.#current || this.#candidate) return;
    if (link.level === SOURCE || why === "denied") {
      this.close();
      return this.#owner.ended(why, detail);
    }
    this.#levels = this.#levels.filter(({ id }) => id !== link.level); // its encoder has ended
    this.#change(SOURCE, false);
  }

  #look() {
    const at = performance.now() / 1000;
    const { arrivals, level, open } = this.#current;
    if (!open) return;
    if (this.#candidate) {
      const { isTry, link } = this.#candidate;
      if (this.#held && at - this.#held.since > MOST_HELD) this.#release();
      const { bitrate = 0 } = this.#levels.find(({ id }) => id === link.level) ?? {};
      if (!isTry || (at - link.opened < MOST_TRY && !fails(arrivals, link.arrivals, bitrate, at))) return;
      this.#drop();
      this.#settled = at + SETTLES;
      return this.#adapter.tried(false, at);
    }
    const slow = at > this.#settled && arrivals.slow;
    if (arrivals.calm(at) > CALM_AGAIN) [this.slow, this.#slowSince] = [false, Infinity];
    if (slow) {
      this.#slowSince = Math.min(this.#slowSince, at);
      const lower = this.#wanted === AUTO ? this.#adapter.lower(this.#automatic, level, arrivals.rate(at), at) : null;
      if (lower === null) {
        if (at - this.#slowSince > SLOW_SECONDS) this.slow = true;
        return void this.#renew();
      }
      // What it still sends would delay the smaller one.
      this.#current.close();
      return this.#change(lower, false);
    }
    if (this.#wanted !== AUTO) return;
    const higher = this.#adapter.higher(this.#automatic, level, arrivals, at);
    if (higher !== null) this.#change(higher, true);
  }

  /** Looks for renditions that have begun since the stream was opened. */
  async #renew() {
    if (this.#asking || this.#levels.length > 1) return;
    this.#asking = true;
    const status = await this.#live.renew();
    this.#asking = false;
    if (!status?.live) return;
    this.#live = { ...this.#live, status };
    this.#levels = levelsOf(status);
  }
}

/** @param {Tag} header  of the file */
function hasVideo({ body }) { return (body[4] ?? 0) % 2 === 1; }

/** @param {import("./types.js").Status} status @returns {Quality[]} the smallest first */
function levelsOf(status) {
  const { bitrate = 0, renditions: all = [] } = status;
  const renditions = all.filter(({ outputs }) => outputs.includes("flv")).map(({ name: id, width, height, ...more }) =>
    ({ id, bitrate: more.bitrate, width: width ?? 0, height: height ?? heightOf(id) }));
  const smaller = renditions.filter((level) => !bitrate || level.bitrate < bitrate);
  const larger = renditions.filter((level) => !smaller.includes(level));
  return [...smaller, { id: SOURCE, bitrate, height: 0 }, ...larger];
}
