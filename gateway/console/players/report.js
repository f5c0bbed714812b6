/** Reports what this viewer experiences: start-up time, stalls, delay and quality. The viewer can turn it off. */

import { EMBEDDED, neighbour, query } from "./status.js";

const EVERY = 30_000; // ms between two reports while the stream plays
/** The page in reports: `watch`, `embed`, or the name of a page for one format. */
const PAGE = EMBEDDED ? "embed" : location.pathname.match(/\/([a-z]+)\.html$/)?.[1] ?? "watch";
const SHORTEST_STALL = 250; // ms; shorter stops of the picture are not visible

/**
 * @typedef {object} Source
 * @property {() => number | null} delay  seconds between publisher and picture; null while unknown
 * @property {() => {bitrate: number, height: number}} quality  bits a second and pixels, 0 while unknown
 */

/**
 * Measures one viewer, and sends the totals with `sendBeacon` at the first picture, every 30 s and when the page is left.
 *
 * A report is one line of CMCD version 2 (CTA-5004-B, event mode). Its session id is random, and new for each protocol.
 * Nothing is sent with `?report=0`, with Global Privacy Control or Do Not Track, or if the gateway wants no reports.
 */
export class Report {
  #source;
  #protocol = "";
  #session = "";
  #number = 0;
  #opened = 0; // performance.now() at which the stream was opened
  /** @type {number | null} */
  #startup = null;  // ms until the first picture
  #stalls = 0;
  #stallMs = 0;
  #stalledAt = 0; // 0: the picture moves, or nobody waits for it
  #closed = true;

  /** @param {Source} source */
  constructor(source) {
    this.#source = source;
    setInterval(() => this.#send("t"), EVERY);
    addEventListener("pagehide", () => this.#send("t"));
  }

  /**
   * A stream is opened. The first call, and each call with another protocol, begins a new measurement.
   * @param {string} protocol  name of the address in `playUrls` (flv, wsflv, hls, cmaf, dash), or `instant`, `whep`
   * @param {boolean} wanted  whether the gateway wants reports: `status.reports === true`
   */
  opening(protocol, wanted) {
    if (!wanted || isRefused()) {
      this.#closed = true;
      return;
    }
    if (!this.#closed && protocol === this.#protocol) return;
    this.close();
    this.#closed = false;
    this.#protocol = protocol;
    this.#session = Array.from(crypto.getRandomValues(new Uint8Array(8)), (n) => n.toString(16).padStart(2, "0")).join("");
    this.#opened = performance.now();
    this.#startup = null;
    this.#number = this.#stalls = this.#stallMs = this.#stalledAt = 0;
  }

  /** The picture moves. */
  #playing() {
    if (this.#closed) return;
    this.#endStall();
    if (this.#startup !== null) return;
    this.#startup = performance.now() - this.#opened;
    this.#send("ps");
  }

  /** The viewer waits for the next picture. */
  stalled() {
    if (!this.#closed && this.#startup !== null && !this.#stalledAt) this.#stalledAt = performance.now();
  }

  /** The picture stands still because the viewer paused, or the stream has ended. */
  resting() { this.#endStall(); }

  /**
   * Measures a media element.
   * @param {HTMLVideoElement} video
   */
  follow(video) {
    video.addEventListener("timeupdate", () => {
      if (!video.paused && !video.seeking && video.readyState > HTMLMediaElement.HAVE_CURRENT_DATA) this.#playing();
    });
    video.addEventListener("waiting", () => { if (!video.seeking && !video.paused) this.stalled(); });
    video.addEventListener("pause", () => this.resting());
  }

  /** Sends the last report of a measurement. */
  close() {
    if (this.#closed) return;
    this.#endStall();
    this.#send("t");
    this.#closed = true;
  }

  /** Milliseconds since the picture stopped; 0 while it moves, or until a stop is visible. */
  get #standing() {
    const ms = this.#stalledAt ? performance.now() - this.#stalledAt : 0;
    return ms < SHORTEST_STALL ? 0 : ms;
  }

  #endStall() {
    const ms = this.#standing;
    this.#stalledAt = 0;
    if (!ms) return;
    this.#stalls += 1;
    this.#stallMs += ms;
  }

  /** @param {"ps" | "t"} event  of CMCD: a changed state of the player, or the time of the next report */
  #send(event) {
    if (this.#closed || this.#startup === null) return;
    // A stall that goes on is counted up to now.
    const standing = this.#standing;
    const delay = this.#source.delay();
    const { bitrate, height } = this.#source.quality();
    const fields = [
      `bsa=(${this.#stalls + (standing ? 1 : 0)})`,
      `bsda=(${Math.round(this.#stallMs + standing)})`,
      `e=${event}`,
      ...(delay === null || !Number.isFinite(delay) ? [] : [`ltc=${Math.max(0, Math.round(delay * 1000))}`]),
      ...(height > 0 ? [`millrace-h=${Math.round(height)}`] : []),
      `millrace-p=${this.#protocol}`, `millrace-page=${PAGE}`,
      `msd=${Math.round(this.#startup)}`,
      ...(bitrate > 0 ? [`pb=(${Math.round(bitrate / 1000)})`] : []),
      `sid="${this.#session}"`, `sn=${this.#number++}`, "st=l", `ts=${Date.now()}`, "v=2",
    ];
    navigator.sendBeacon(neighbour("report"), fields.join(","));
  }
}

/** @returns {boolean} whether the viewer wants no reports */
function isRefused() {
  const { globalPrivacyControl } = /** @type {{globalPrivacyControl?: boolean}} */ (/** @type {unknown} */ (navigator));
  return new URLSearchParams(query).get("report") === "0" || globalPrivacyControl === true || navigator.doNotTrack === "1";
}
