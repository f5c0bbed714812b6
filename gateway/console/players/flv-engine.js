/** The HTTP-FLV engine with mpegts.js, kept close to the live edge. */

import { CatchUp } from "./catchup.js";
import { empty, newest, pending, stepOverHole } from "./media.js";

/**
 * The used parts of mpegts.js, which is a classic script and sets a global.
 * @typedef {{on(event: string, run: (...args: any[]) => void): void, attachMediaElement(video: HTMLVideoElement): void,
 *   load(): void, destroy(): void}} FlvPlayer
 * @typedef {{isSupported(): boolean, createPlayer(source: object, config: object): FlvPlayer,
 *   Events: Record<string, string>, ErrorTypes: Record<string, string>, ErrorDetails: Record<string, string>,
 *   LoggingControl: {enableAll: boolean}}} Mpegts
 */

/** @typedef {import("./types.js").OpenEngine} OpenEngine */

/** @returns {Mpegts}  its script has to be loaded before an engine is opened */
function library() {
  const mpegts = /** @type {any} */ (globalThis).mpegts;
  mpegts.LoggingControl.enableAll = false; // failures are shown as messages; the browser's console is for real errors
  return mpegts;
}

const LOOK = 250; // ms between two checks of the buffer

const CONFIG = {
  enableWorker: false,      // its worker is made from a blob, which the page's policy forbids
  enableStashBuffer: false, // passes frames on at once
  lazyLoad: false,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 60,
  autoCleanupMinBackwardDuration: 30,
};

/** @returns {string | null}  reason why this browser cannot play HTTP-FLV; null if it can */
export function flvUnsupported() {
  return library().isSupported() ? null
    : "HTTP-FLV needs Media Source Extensions, which are missing here. The HLS player above does without.";
}

/** @type {OpenEngine} */
export function flvEngine(video, url) {
  const mpegts = library();
  const { outcome, settle } = pending();
  const player = mpegts.createPlayer({ type: "flv", isLive: true, url }, CONFIG);
  player.on(mpegts.Events.LOADING_COMPLETE ?? "", () => settle("ended"));
  player.on(mpegts.Events.ERROR ?? "", (type, detail, info) => {
    const words = String(info?.msg ?? detail);
    if (type === mpegts.ErrorTypes.NETWORK_ERROR) settle(info?.code === 401 || info?.code === 403 ? "denied" : "lost", words);
    else settle(isUnsupported(mpegts, detail, words) ? "codec" : "lost", words);
  });
  video.addEventListener("error", decodeError);
  /** The media element reported an error. */
  function decodeError() {
    if (video.error) settle(video.error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED ? "codec" : "lost", video.error.message);
  }
  const pace = keepUp(video);
  let begun = false;
  // Metadata come at the beginning, and again before the media of a publisher that returned.
  player.on(mpegts.Events.METADATA_ARRIVED ?? "", () => {
    if (begun) pace.returned();
    begun = true;
  });
  player.attachMediaElement(video);
  player.load();
  let open = true;
  return {
    outcome,
    delay() {
      const end = newest(video);
      return end === null ? null : end - video.currentTime;
    },
    toLive: () => pace.toLive(),
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
 * @returns {{toLive: () => void, returned: () => void, stop: () => void}}  returned: call when the publisher is back
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
  // Uses events, because timers of hidden tabs are slow.
  for (const event of ["canplay", "progress", "timeupdate"]) video.addEventListener(event, overBreak, { signal });
  video.addEventListener("waiting", () => { if (begun && !video.seeking && !document.hidden) catchUp.stalled(seconds()); }, { signal });
  const timer = setInterval(() => {
    if (video.paused || video.seeking) return;
    stepOverHole(video);
    const end = newest(video);
    if (!begun || end === null) return;
    const { rate, jump } = catchUp.next(end - video.currentTime, seconds());
    if (jump) video.currentTime += jump;
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }, LOOK);
  const returned = () => {
    // With some buffer left, playback continues as before, because the publisher's time continued too.
    if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return;
    before = newest(video) ?? Infinity;
    catchUp.returned(seconds());
  };
  return { toLive, returned, stop() { clearInterval(timer); ended.abort(); } };
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
