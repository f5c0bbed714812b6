/** The engine of HTTP-FLV and WS-FLV with mpegts.js, kept close to the live edge. */

import { CatchUp } from "./catchup.js";
import { FlvStream } from "./flv-stream.js";
import { AUDIO, fourCC, isHeader, isMetadata, join, VIDEO } from "./flv-tags.js";
import { empty, failure, goToFirst, MSE, newest, pending, stepOverHole } from "./media.js";
import { AUTO } from "./quality.js";

/**
 * The used parts of mpegts.js, which is a classic script and sets a global.
 * @typedef {{on(event: string, run: (...args: any[]) => void): void, attachMediaElement(video: HTMLVideoElement): void,
 *   load(): void, destroy(): void}} FlvPlayer
 * @typedef {{open(): void, abort(): void, destroy(): void,
 *   onDataArrival: ((bytes: ArrayBuffer, begin: number, received: number) => void) | null}} Loader
 * @typedef {{isSupported(): boolean, createPlayer(source: object, config: object): FlvPlayer, BaseLoader: new (name: string) => Loader,
 *   Events: Record<string, string>, ErrorTypes: Record<string, string>, ErrorDetails: Record<string, string>,
 *   LoggingControl: {enableAll: boolean}}} Mpegts
 */

/** @typedef {import("./types.js").OpenEngine} OpenEngine */

/**
 * Makes mpegts.js 1.8.2 pass on the pictures and the sound that it keeps, up to two of each. Otherwise it would give them to
 * the decoder of the next quality, which loses them, and a whole GOP if the next decode times are earlier. It has no public way.
 * @param {FlvPlayer} player
 * @param {boolean} [alone]  the pictures; silence fills the hole of the sound
 */
function flush(player, alone) {
  const { _demuxer: { _audioTrack, _videoTrack }, _remuxer } = /** @type {any} */ (player)._player_engine._transmuxer._controller;
  const { _audioStashedLastSample, _audioNextDts } = _remuxer;
  _remuxer._remuxVideo(_videoTrack, true);
  if (alone) _remuxer._audioStashedLastSample = null;
  else _remuxer._remuxAudio(_audioTrack, true);
  _remuxer.flushStashedSamples();
  _remuxer.insertDiscontinuity(); // the times of the next media count, not the duration of the last
  if (alone) Object.assign(_remuxer, { _audioStashedLastSample, _audioNextDts });
}

/** @returns {Mpegts}  its script has to be loaded before an engine is opened */
function library() {
  const mpegts = /** @type {any} */ (globalThis).mpegts;
  mpegts.LoggingControl.enableAll = false; // failures are shown as messages
  return mpegts;
}

const FROZEN = 1; // seconds that the picture stands still beside enough media, after which it jumps
const LOOK = 250; // ms between two checks of the buffer

const CONFIG = {
  enableWorker: false, // its worker is made from a blob, which the page's policy forbids
  enableStashBuffer: false, // passes frames on at once
  lazyLoad: false,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 60,
  autoCleanupMinBackwardDuration: 30,
};

/** @returns {string | null}  the feature that this browser lacks; null: none */
export function flvUnsupported() {
  return library().isSupported() ? null : MSE;
}

/** @type {OpenEngine} */
export function flvEngine(video, url, now, live) {
  const mpegts = library();
  const { outcome, settle } = pending();
  let wanted = AUTO;
  /** @type {FlvStream | null} */
  let stream = null;
  /** The media time at which the element's time begins, ms; NaN before the first media. */
  let base = NaN;
  const time = (/** @type {number} */ ms) => (ms - base) / 1000;
  const pace = keepUp(video);
  // Metadata come at the beginning, and again before the media of a publisher that returned.
  let begun = false;

  /** Gives the tags of the stream to mpegts.js. */
  class Source extends mpegts.BaseLoader {
    #received = 0;
    constructor() { super("FlvStream"); }

    open() {
      stream = new FlvStream(url, now, live, wanted, {
        tags: (tags) => {
          // mpegts.js 1.8.2 reads one bit too many of AV1's frame headers: it shows no pictures, or stretched ones.
          if (tags.some((tag) => isHeader(tag) && fourCC(tag.body) === "av01")) return settle("codec");
          const at = tags.findIndex(isMetadata);
          if (at >= 0 && begun) {
            this.#give(tags.splice(0, at));
            flush(player, true); // it would decode the last picture with the parameters of the next one
            pace.returned();
          }
          begun ||= at >= 0;
          this.#give(tags);
        },
        changed: () => flush(player),
        hole: (from, to) => pace.over(time(from), time(to)),
        ended: settle,
      });
    }

    /** @param {import("./flv-tags.js").Tag[]} tags */
    #give(tags) {
      if (Number.isNaN(base)) {
        const media = tags.filter((tag) => (tag.type === VIDEO || tag.type === AUDIO) && !isHeader(tag));
        if (media.length) base = Math.min(...media.map((tag) => tag.time)); // as mpegts.js 1.8.0, `_calculateDtsBase`
      }
      const bytes = join(tags, base);
      const before = this.#received;
      this.#received += bytes.byteLength;
      this.onDataArrival?.(bytes, before, this.#received);
    }

    abort() { stream?.close(); }

    destroy() {
      stream?.close();
      super.destroy();
    }
  }

  const player = mpegts.createPlayer({ type: "flv", isLive: true, url }, { ...CONFIG, customLoader: Source });
  player.on(mpegts.Events.ERROR ?? "", (_, detail, info) => {
    const words = String(info?.msg ?? detail);
    settle(isUnsupported(mpegts, detail, words) ? "codec" : "lost", words);
  });
  video.addEventListener("error", decodeError);
  /** The media element reported an error. */
  function decodeError() {
    if (video.error) settle(failure(video), video.error.message);
  }
  player.attachMediaElement(video);
  player.load();
  let open = true;
  return {
    outcome,
    delay() {
      const behind = (now() - (stream?.timeline.dateOf(base + video.currentTime * 1000) ?? NaN)) / 1000;
      return Number.isNaN(behind) ? null : Math.max(0, behind);
    },
    toLive: () => pace.toLive(),
    qualities: () => stream?.qualities ?? [],
    quality(id) {
      wanted = id;
      stream?.quality(id);
    },
    shown: () => stream?.level ?? null,
    slow: () => stream?.slow ? "yes" : "no",
    close() {
      if (!open) return;
      open = false;
      pace.stop();
      video.removeEventListener("error", decodeError);
      player.destroy();
      empty(video);
    },
  };
}

/**
 * Keeps the picture close to the live edge: skips gaps, plays faster while late, and jumps if that would take too long.
 *
 * While the publisher is disconnected, time continues, and mpegts.js fills the gap with the last picture and silence. A viewer who
 * had no buffer left would stay late by the length of the break. So this filling is skipped.
 * @param {HTMLVideoElement} video
 * @returns {{toLive: () => void, returned: () => void, over: (from: number, to: number) => void, stop: () => void}}
 *   returned: call when the publisher is back. over: call before media come that have no pictures between two times
 */
function keepUp(video) {
  const catchUp = new CatchUp();
  const seconds = () => performance.now() / 1000;
  const ended = new AbortController();
  const { signal } = ended;
  let begun = false;
  let before = Infinity; // end of the media before the publisher's return; Infinity after it was handled
  video.preservesPitch = true;
  const toLive = () => {
    const end = newest(video);
    if (end !== null && end - video.currentTime > catchUp.keep + 0.5) video.currentTime = end - catchUp.keep;
  };
  // A new viewer first gets the pictures since the last key frame. They may be skipped, as nothing was played yet.
  video.addEventListener("canplay", toLive, { signal, once: true });
  video.addEventListener("playing", () => {
    begun = true;
    catchUp.moves(seconds());
  }, { signal });
  const overBreak = () => {
    const end = newest(video);
    if (end === null || end <= before || video.paused || video.seeking) return;
    before = Infinity;
    const jump = catchUp.over(end - video.currentTime);
    if (jump) video.currentTime += jump;
  };
  /** Times between which there are no pictures. */
  let hole = { from: Infinity, to: -Infinity };
  const overHole = () => {
    const end = newest(video);
    if (end === null || end <= hole.to + 0.1 || video.seeking || video.currentTime < hole.from - 0.3) return;
    const { to } = hole;
    const jumps = video.currentTime < to;
    hole = { from: Infinity, to: -Infinity };
    if (jumps) video.currentTime = Math.max(to, end - catchUp.keep);
  };
  for (const event of ["progress", "timeupdate", "waiting"]) video.addEventListener(event, overHole, { signal });
  // Uses events, because timers of hidden tabs are slow.
  for (const event of ["canplay", "progress", "timeupdate"]) video.addEventListener(event, overBreak, { signal });
  video.addEventListener("waiting", () => { if (begun && !video.seeking && !document.hidden) catchUp.stalled(seconds()); }, { signal });
  let [place, since] = [NaN, 0]; // where the picture is, and since when it has been there with enough media to go on
  const timer = setInterval(() => {
    goToFirst(video);
    if (video.paused) return;
    overHole();
    stepOverHole(video); // also of a seek: WebKitGTK 2.50 may seek to a place that mpegts.js has removed
    const end = newest(video);
    if (video.seeking || !begun || end === null) return;
    const at = video.currentTime;
    if (at !== place || video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) [place, since] = [at, seconds()];
    const { rate, jump } = catchUp.next(end - at, seconds());
    // WebKitGTK 2.50 may freeze when the speed changes. It wakes by a jump, unless the speed changes with it.
    if (seconds() - since > FROZEN) video.currentTime = Math.max(at + 0.01, end - catchUp.keep);
    else if (jump) video.currentTime += jump;
    else if (video.playbackRate !== rate) video.playbackRate = rate;
  }, LOOK);
  const returned = () => {
    // With some buffer left, playback continues as before, because the publisher's time continued too.
    if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return;
    before = newest(video) ?? Infinity;
    catchUp.returned(seconds());
  };
  return {
    toLive, returned,
    over(from, to) {
      hole = { from, to };
      catchUp.returned(seconds());
    },
    stop() { clearInterval(timer); ended.abort(); },
  };
}

/**
 * @param {Mpegts} mpegts
 * @param {string} detail
 * @param {string} words
 * @returns {boolean} whether the codec is the reason, not the connection
 */
function isUnsupported(mpegts, detail, words) {
  return detail === mpegts.ErrorDetails.MEDIA_CODEC_UNSUPPORTED || detail === mpegts.ErrorDetails.MEDIA_FORMAT_UNSUPPORTED
    || /unsupported|not supported/i.test(words);
}

/** @type {Promise<void> | null} */
let loading = null;

/** Loads mpegts.js, unless the page has it already. It is a classic script that sets a global. @returns {Promise<void>} */
export function loadLibrary() {
  if ("mpegts" in globalThis) return Promise.resolve();
  loading ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL("mpegts.min.js", import.meta.url).href;
    script.onload = () => done();
    script.onerror = () => { loading = null; failed(new Error("mpegts.js")); };
    document.head.append(script);
  });
  return loading;
}
