/** Chooses how to play a stream: the viewer's choice, else the best way, and the next one if that fails. */

import { loadDash, loadFlv, loadHls, loadMoq, loadWhep } from "./engines.js";
import { apple, nativeHls, webTransport } from "./media.js";
import { AUTO } from "./quality.js";
import { hlsRenditions } from "./renditions.js";

/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Way} Way */

const FORGET = 300_000; // ms after which a way that failed may be chosen again
const RETURN = 120_000; // ms after which FLV is tried again, if the link was too slow for it; doubled each time
const LONGEST_RETURN = 1_800_000;
const FLV = ["wsflv", "flv"];

/** The way with the shortest delay: by WebRTC where that is possible, else with WebCodecs. */
const INSTANT = "instant";

/** All ways, in the order of the menu. @type {Way[]} */
export const WAYS = [
  {
    id: "wsflv", label: "WS-FLV", output: "flv", protocol: "wsflv", media: "live.flv",
    load: async () => {
      const { open, unsupported } = await loadFlv();
      return { open: (video, url, ...more) => open(video, url.replace(/^http/, "ws"), ...more), unsupported };
    },
  },
  { id: "cmaf", label: "LL-HLS", output: "cmaf", media: "master.m3u8", load: () => loadHls(true) },
  { id: "whep", label: "WebRTC", output: "whep", media: "whep", load: loadWhep },
  { id: "flv", label: "HTTP-FLV", output: "flv", media: "live.flv", load: loadFlv },
  {
    id: INSTANT, label: "Instant", output: "flv", protocol: "instant", media: "live.flv",
    load: async () => {
      const { instantEngine, supported } = await import("./instant-engine.js");
      return { open: instantEngine, unsupported: supported() ? null : "WebCodecs" };
    },
  },
  { id: "hls", label: "HLS", output: "hls", media: "live.m3u8", others: hlsRenditions, load: () => loadHls(false) },
  { id: "dash", label: "DASH", output: "cmaf", protocol: "dash", media: "manifest.mpd", load: loadDash },
  { id: "moq", label: "MoQ", output: "moq", media: "moq", load: loadMoq },
];

/** The ways that are chosen automatically, the best first. HLS is what Apple's browsers play best. */
const BEST = apple ? ["cmaf", "hls", "wsflv", "flv"] : ["wsflv", "cmaf", "flv", "hls"];

/**
 * The next thing to do: play `way` with `format`, or show a state.
 * @typedef {{way: Way, format: Format} | {state: "off" | "starting" | "codec" | "lost"}} Choice
 */

/** @param {Format} format @returns {Ways} the only way of a page, whose engine checks the stream itself */
export const onlyWay = (format) => new Ways([{ ...format, id: format.label, load: async () => format }], AUTO, () => true);

/** Remembers the viewer's choice and the ways that failed in this page. */
export class Ways {
  /** The id of the way that the viewer wants, or AUTO. */
  wanted;

  #ways;
  #isPlayable;
  /** The time at which a way failed; Infinity: it never works with this stream. @type {Map<string, number>} */
  #failed = new Map();
  #pause = RETURN / 2;
  #returns = Infinity; // when FLV may be tried again, after LL-HLS was taken for a slow link

  /**
   * @param {Way[]} ways
   * @param {string} wanted
   * @param {(way: Way, status: Status) => boolean} playable  whether this browser may play the stream in this way
   */
  constructor(ways, wanted, playable = isPlayable) {
    this.#ways = ways;
    this.#isPlayable = playable;
    this.wanted = wanted;
  }

  /**
   * @param {Status} status
   * @returns {Way[]} the ways of this channel that this browser may play, the wanted or best one first
   */
  possible(status) {
    const rank = (/** @type {Way} */ way) =>
      this.#isWanted(way) ? -1 : (BEST.indexOf(way.id) + BEST.length + 1) % (BEST.length + 1);
    return this.#ways.filter((way) => status.outputs.includes(way.output) && this.#isPlayable(way, status))
      .sort((a, b) => rank(a) - rank(b));
  }

  /**
   * @param {Status} status  of a live stream
   * @returns {Promise<Choice>}
   */
  async choose(status) {
    const { outputs, ready = outputs } = status;
    if (!this.#ways.some(({ output }) => outputs.includes(output))) return { state: "off" };
    const possible = this.possible(status);
    for (;;) {
      const now = performance.now();
      let left = possible.filter(({ id }) => now - (this.#failed.get(id) ?? -FORGET) >= FORGET);
      if (!left.length) {
        for (const [id, at] of this.#failed) if (at !== Infinity) this.#failed.delete(id);
        left = possible.filter(({ id }) => !this.#failed.has(id));
      }
      if (!left[0]) return { state: "codec" };
      const isReady = (/** @type {Way} */ { output }) => ready.includes(output);
      const best = left.filter(({ id }) => BEST.includes(id)); // the others do not serve a crowd as cheaply
      const way = this.#isWanted(left[0]) ? left[0] : (best.length ? best : left).find(isReady);
      if (!way || !isReady(way)) return { state: "starting" };
      try {
        const loaded = await way.load();
        if (loaded.unsupported === null) return { way, format: { ...way, ...loaded } };
        this.#failed.set(way.id, Infinity);
      } catch {
        if (left.length === 1) return { state: "lost" }; // the engine was not loaded, and there is no other way
        this.#failed.set(way.id, performance.now());
      }
    }
  }

  /**
   * Records that a way does not play.
   * @param {Way} way
   * @param {boolean} forever  whether it can never play this stream
   * @param {Status} status
   * @returns {boolean} whether another way is left
   */
  failed(way, forever, status) {
    this.#failed.set(way.id, forever ? Infinity : performance.now());
    return this.possible(status).some(({ id }) => !this.#failed.has(id));
  }

  /**
   * The link is too slow for `way`. LL-HLS has a larger buffer and its own choice of qualities, so it may be better than FLV.
   * @param {Way} way
   * @param {Status} status
   * @returns {boolean} whether another way should be opened
   */
  struggles({ id }, status) {
    if (this.wanted !== AUTO) return false;
    const now = performance.now();
    if (id === "cmaf" && Number.isFinite(this.#returns)) {
      // It is not better.
      this.#failed.set("cmaf", now);
      for (const flv of FLV) this.#failed.delete(flv);
      this.#returns = Infinity;
      return true;
    }
    const cmaf = this.possible(status).some((way) => way.id === "cmaf") && (status.ready ?? status.outputs).includes("cmaf");
    if (!FLV.includes(id) || !cmaf || now - (this.#failed.get("cmaf") ?? -FORGET) < FORGET) return false;
    for (const flv of FLV) this.#failed.set(flv, now);
    this.#pause = Math.min(LONGEST_RETURN, this.#pause * 2);
    this.#returns = now + this.#pause;
    return true;
  }

  /**
   * @param {Way} way  that plays without stops
   * @param {Status} status
   * @returns {boolean} whether FLV should be tried again, because the link may be good again
   */
  mayReturn({ id }, status) {
    if (this.wanted !== AUTO || id !== "cmaf" || performance.now() < this.#returns) return false;
    this.#returns = Infinity;
    for (const flv of FLV) this.#failed.delete(flv);
    return this.possible(status).some((way) => FLV.includes(way.id));
  }

  /** @param {Way} way */
  #isWanted({ id }) { return id === this.wanted || (id === "whep" && this.wanted === INSTANT); }

  /** Forgets all failures, because the stream is another one now, or the viewer wants to try again. */
  reset() { this.#failed.clear(); }
}

/**
 * @param {Way} way
 * @param {Status} status
 * @returns {boolean} whether this browser may play the stream's picture in this way
 */
function isPlayable({ id }, { tracks = [] }) {
  if (nativeHls && (id === "cmaf" || id === "hls")) return true;
  if (id === "whep") return "RTCPeerConnection" in globalThis; // the gateway makes what browsers cannot show this way
  if (id === "moq") return webTransport && "VideoDecoder" in globalThis;
  if (id === INSTANT) return "VideoDecoder" in globalThis;
  const source = /** @type {any} */ (globalThis).ManagedMediaSource ?? globalThis.MediaSource;
  if (!source) return false;
  // The engines know more about sound than the browser says, such as MP3 in MPEG-TS. So only the picture is checked.
  const codec = tracks.find(({ kind }) => kind === "video")?.codec;
  return !codec || source.isTypeSupported(`video/mp4; codecs="${codec}"`);
}
