/** One idea: the engine of HTTP-FLV through mpegts.js, held close to the live edge. */

import { CatchUp } from "./catchup.js";
import { empty, newest, pending, stepOverHole } from "./media.js";

/**
 * The parts of mpegts.js that are used; it is a classic script and leaves a global.
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
  mpegts.LoggingControl.enableAll = false; // failures are shown in words; the console stays for real errors
  return mpegts;
}

const LOOK = 250; // ms between two looks at what is buffered

const CONFIG = {
  enableWorker: false,      // its worker is made from a blob, which the page's policy forbids
  enableStashBuffer: false, // hand frames on as they come
  lazyLoad: false,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 60,
  autoCleanupMinBackwardDuration: 30,
};

/** @returns {string | null}  why this browser cannot play HTTP-FLV; null when it can */
export function flvUnsupported() {
  return library().isSupported() ? null : "HTTP-FLV needs Media Source Extensions, which are missing here. The HLS player above does without.";
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
  /** The element itself gave up. */
  function decodeError() {
    if (video.error) settle(video.error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED ? "codec" : "lost", video.error.message);
  }
  player.attachMediaElement(video);
  player.load();
  const pace = keepUp(video);
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
 * Holds the picture close behind what arrives: over holes, faster while behind, and with a jump where that would take
 * too long.
 * @param {HTMLVideoElement} video
 * @returns {{toLive: () => void, stop: () => void}}
 */
function keepUp(video) {
  const catchUp = new CatchUp();
  const seconds = () => performance.now() / 1000;
  const ended = new AbortController();
  const { signal } = ended;
  let begun = false;
  video.preservesPitch = true;
  const toLive = () => {
    const end = newest(video);
    if (end !== null && end - video.currentTime > catchUp.keep + 0.5) video.currentTime = end - catchUp.keep;
  };
  // A viewer gets the pictures since the last key frame first: nothing was heard yet, so nobody misses them.
  video.addEventListener("canplay", toLive, { signal, once: true });
  video.addEventListener("playing", () => { begun = true; }, { signal });
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
  return { toLive, stop() { clearInterval(timer); ended.abort(); } };
}

/**
 * @param {Mpegts} mpegts
 * @param {string} detail
 * @param {string} words
 * @returns {boolean} is it the codec, and not this connection?
 */
function isUnsupported(mpegts, detail, words) {
  return detail === mpegts.ErrorDetails.MEDIA_CODEC_UNSUPPORTED || detail === mpegts.ErrorDetails.MEDIA_FORMAT_UNSUPPORTED
    || /unsupported|not supported/i.test(words);
}
