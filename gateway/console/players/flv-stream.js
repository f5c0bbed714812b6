/** Receives an FLV stream in the wanted or fitting quality, and changes the quality at a key frame without a gap. */

import { Adapter, Arrivals, fails, isClose, MOST_TRY } from "./adapter.js";
import { openFlv } from "./flv-connection.js";
import { AUDIO, clockOf, FlvError, FlvTags, isHeader, isKey, isMetadata, shownAt, VIDEO } from "./flv-tags.js";
import { pageRate } from "./page-rate.js";
import { AUTO, heightOf, SOURCE } from "./quality.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./flv-tags.js").Tag} Tag */
/** @typedef {import("./types.js").Live} Live */
/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {import("./types.js").Quality} Quality */

const LOOK = 250; // ms between two looks at what arrives
const MOST_HELD = 3; // seconds for which one connection waits for the other to come to the same picture
const SAME = 10; // ms by which the times of one picture may differ between the qualities
const SETTLES = 4; // seconds until the lag of a failed try has gone
const SLOW_SECONDS = 2; // for which the smallest quality is too slow before it is said
const CALM_AGAIN = 5; // seconds without lag until it is no longer said
const HOLE = 300; // ms without pictures at a change that a player should step over
const MAX_PENDING = 1000; // pieces of sound kept before a key frame

/**
 * @typedef {object} Owner
 * @property {(tags: Tag[]) => void} tags     one stream of tags, whatever the quality
 * @property {() => void} changed             the next tags are those of another quality
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
  newest = -Infinity; // latest presentation time that has come
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
  /** Will deliver from a key frame on. isTry: only if the link brings enough. tags: what it has brought since that key frame,
   * while the current connection is not there yet; since: their arrival
   * @type {{link: Link, isTry: boolean, tags: Tag[], since: number} | null} */
  #candidate = null;
  /** What the current connection has brought since the key frame at which the candidate may continue, while that is behind.
   * @type {{tags: Tag[], since: number} | null} */
  #held = null;
  #last = { video: -Infinity, audio: -Infinity }; // latest presentation times that were delivered
  #open = true;
  #asking = false;
  #slowSince = Infinity;
  #settled = -Infinity; // until then, the lag is that of a failed try

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
    if (this.#held) this.#held.tags.push(...media);
    else this.#pass(media);
  }

  /** Delivers tags of the current connection, up to the picture from which the candidate continues. @param {Tag[]} tags */
  #pass(tags) {
    const next = this.#candidate;
    const key = next?.tags[0];
    // A candidate may be later, by the time of its encoder; then it will bring this key frame too.
    const at = tags.findIndex((tag) => key ? reaches(tag, key) : next?.link.ready && begins(next.link, tag) && shownAt(tag) > next.link.newest);
    this.#deliver(at < 0 ? tags : tags.slice(0, at));
    if (at < 0) return;
    if (key) this.#take();
    else this.#held = { tags: tags.slice(at), since: performance.now() / 1000 };
  }

  /** Returns what was held back for a candidate. */
  #release() {
    const { tags = [] } = this.#held ?? {};
    this.#held = null;
    return tags;
  }

  /** @param {Tag[]} tags */
  #deliver(tags) {
    const { after } = this.#current;
    const wanted = after === -Infinity ? tags : tags.filter((tag) => tag.type !== AUDIO || isHeader(tag) || tag.time > after);
    for (const tag of wanted) {
      if (tag.type === 0) this.#current.hasVideo = hasVideo(tag);
      if (isMetadata(tag)) {
        this.timeline.restart();
        this.#last.video = -Infinity;
      }
      if (tag.type === VIDEO && !isHeader(tag)) this.#last.video = Math.max(this.#last.video, shownAt(tag));
      if (tag.type === AUDIO && !isHeader(tag)) this.#last.audio = tag.time;
    }
    if (wanted.length) this.#owner.tags(wanted);
  }

  /** Looks for a key frame from which the candidate can continue. @param {Link} link @param {Tag[]} tags */
  #prepare(link, tags) {
    const next = this.#candidate;
    if (next?.tags.length) return void next.tags.push(...tags);
    for (const [index, tag] of tags.entries()) {
      if (tag.type === 0) link.hasVideo = hasVideo(tag);
      else if (isMetadata(tag)) link.headers = [];
      else if (isHeader(tag)) link.headers.push(tag);
      else if (begins(link, tag)) {
        link.ready = true;
        const delivered = link.hasVideo ? this.#last.video : this.#last.audio;
        if (next && shownAt(tag) > delivered + SAME && (!next.isTry || isClose(this.#current.arrivals, link.arrivals))) {
          next.tags = tags.slice(index);
          next.since = performance.now() / 1000;
          return this.#current.open ? this.#pass(this.#release()) : this.#take();
        }
      } else if (tag.type === AUDIO && link.pending.push(tag) > MAX_PENDING) link.pending.shift();
      if (tag.type === (link.hasVideo ? VIDEO : AUDIO)) link.newest = Math.max(link.newest, shownAt(tag));
    }
  }

  /** Continues with the candidate. */
  #take() {
    if (!this.#candidate) return;
    const { link, isTry, tags } = this.#candidate;
    const before = this.#last.video;
    const late = !this.#current.open;
    if (isTry) this.#adapter.tried(true, performance.now() / 1000);
    this.#current.close();
    this.#candidate = this.#held = null;
    this.#current = link;
    link.after = this.#last.audio;
    const { headers, pending } = link;
    link.headers = link.pending = [];
    this.#owner.changed();
    this.#deliver([...headers, ...pending, ...tags]);
    const [key] = tags;
    if (late && key?.type === VIDEO && shownAt(key) - before > HOLE) this.#owner.hole(before, shownAt(key));
  }

  /** Goes on without the candidate. */
  #drop() {
    this.#candidate?.link.close();
    this.#candidate = null;
    this.#deliver(this.#release());
  }

  /** @param {string} level @param {boolean} isTry */
  #change(level, isTry) {
    if (this.#candidate?.link.level === level && this.#candidate.link.open) {
      this.#candidate.isTry &&= isTry;
      return;
    }
    this.#drop();
    if (level !== this.#current.level || !this.#current.open) this.#candidate = { link: this.#link(level), isTry, tags: [], since: 0 };
  }

  /** @param {Link} link @param {Outcome["why"]} why @param {string} detail */
  #ended(link, why, detail) {
    if (!this.#open) return;
    const tried = this.#candidate?.link === link;
    if (tried) {
      if (this.#candidate?.isTry) this.#adapter.tried(false, performance.now() / 1000);
      this.#drop();
      if (this.#current.open) return;
    } else if (link !== this.#current) return;
    else if (this.#candidate) {
      if (this.#candidate.tags.length) this.#take();
      return;
    }
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
      const { isTry, link, tags, since } = this.#candidate;
      if (tags.length && at - since > MOST_HELD) {
        this.#current.close();
        return this.#take();
      }
      if (this.#held && at - this.#held.since > MOST_HELD) {
        link.ready = false; // until its next key frame
        this.#deliver(this.#release());
      }
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

/** Whether a connection can begin with a tag. @param {Link} link @param {Tag} tag */
function begins({ hasVideo }, tag) { return hasVideo ? isKey(tag) : tag.type === AUDIO && !isHeader(tag); }

/** Whether all before `key`, of another quality, has come when `tag` comes. @param {Tag} tag @param {Tag} key */
function reaches(tag, key) {
  if (tag.type !== key.type || isHeader(tag)) return false;
  return tag.time >= shownAt(key) || (isKey(tag) && shownAt(tag) >= shownAt(key) - SAME);
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
