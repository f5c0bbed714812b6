/** Receives what belongs to a stream's media beside them: captions and metadata, with their dates. */

import { scriptData } from "./amf0.js";
import { CueList, Moments } from "./cues.js";
import { openFlv } from "./flv-connection.js";
import { clockOf, FlvError, FlvTags, isMetadata, SCRIPT } from "./flv-tags.js";
import { Backoff } from "./status.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./cues.js").Cue} Cue */

const MOST_TRACKS = 80; // of captions, with those of CEA-708
const LONGEST = 3_600_000; // ms that a caption without an end is shown
const LATE = 2000; // ms

/**
 * `live.flv?only=data` of a stream. It is opened again while it is lost.
 *
 * Pictures have dates: those of their arrival at the gateway. A caption is shown with the picture of its date.
 */
export class StreamData {
  #url;
  #timeline = new Timeline();
  /** @type {Map<string, CueList>} */
  #tracks = new Map();
  #metadata = new Moments(LATE);
  #ended = new AbortController();
  #connection = /** @type {{close: () => void} | null} */ (null);

  /** @param {string} url  of live.flv, http: */
  constructor(url) {
    const data = new URL(url);
    data.search += `${data.search ? "&" : "?"}only=data`;
    this.#url = data.href;
    void this.#run();
  }

  /** The ids of the tracks that have come so far. */
  get tracks() { return [...this.#tracks.keys()]; }

  /** @param {string} track @param {number} date  of the shown picture, ms since 1970 @returns {Cue[]} */
  cues(track, date) { return this.#tracks.get(track)?.at(this.#timeOf(date)) ?? []; }

  /** @param {number} date  of the shown picture, ms since 1970 @returns {string[]} the metadata since the last call */
  metadata(date) { return this.#metadata.due(this.#timeOf(date)).map(({ text }) => text); }

  close() {
    this.#ended.abort();
    this.#connection?.close();
  }

  /** @param {number} date @returns {number} the time of the stream, ms; NaN: unknown */
  #timeOf(date) { return date - this.#timeline.dateOf(0); }

  async #run() {
    const { signal } = this.#ended;
    const backoff = new Backoff(1, 20);
    // A browser opens few connections by HTTP, but many WebSockets. What is between may not know these.
    for (let socket = true; !signal.aborted; socket = !socket) {
      const url = socket ? this.#url.replace(/^http/, "ws") : this.#url;
      const why = await new Promise((done) => { this.#connection = this.#open(url, backoff, done); });
      this.#connection?.close();
      if (why === "denied") return; // the page says so
      await backoff.pause(signal);
    }
  }

  /** @param {string} url @param {Backoff} backoff @param {(why: string) => void} ended */
  #open(url, backoff, ended) {
    const tags = new FlvTags();
    return openFlv(url, {
      data: (bytes) => {
        try {
          for (const tag of tags.push(bytes)) this.#take(tag);
          backoff.reset();
        } catch (error) {
          if (!(error instanceof FlvError)) throw error;
          ended("lost");
        }
      },
      ended,
    });
  }

  /** @param {import("./flv-tags.js").Tag} tag */
  #take(tag) {
    const date = clockOf(tag);
    if (date !== null) return this.#timeline.note(tag.time, date);
    if (isMetadata(tag)) return this.#timeline.restart();
    const data = tag.type === SCRIPT ? scriptData(tag.body) : null;
    if (data?.name === "onMillraceCaption") this.#caption(tag.time, data.values);
    if (data?.name === "onTimedMetadata" && typeof data.values["text"] === "string") this.#metadata.add(tag.time, data.values["text"]);
  }

  /** @param {number} time  of the tag, which is that of the caption @param {import("./amf0.js").AmfObject} values */
  #caption(time, { track, text, start, end, until, line }) {
    if (typeof track !== "string" || typeof text !== "string" || typeof start !== "number") return;
    let cues = this.#tracks.get(track);
    if (!cues && this.#tracks.size < MOST_TRACKS) this.#tracks.set(track, cues = new CueList());
    const last = typeof end === "number" ? end : typeof until === "number" ? until : start + LONGEST;
    // The tag's time does not wrap.
    cues?.add({ start: time, end: time + last - start, open: typeof end !== "number", text, line: typeof line === "number" ? line : null });
  }
}
