/** One idea: HTTP-FLV through mpegts.js, held close to the live edge. */

import { empty, newest, pending, stepOverHole } from "./media.js";
import { start } from "./page.js";

/**
 * The parts of mpegts.js that are used; it is a classic script and leaves a global.
 * @typedef {{on(event: string, run: (...args: any[]) => void): void, attachMediaElement(video: HTMLVideoElement): void,
 *   load(): void, destroy(): void}} FlvPlayer
 * @typedef {{isSupported(): boolean, createPlayer(source: object, config: object): FlvPlayer,
 *   Events: Record<string, string>, ErrorTypes: Record<string, string>, ErrorDetails: Record<string, string>,
 *   LoggingControl: {enableAll: boolean}}} Mpegts
 */

/** @type {Mpegts} */
const mpegts = /** @type {any} */ (globalThis).mpegts;
mpegts.LoggingControl.enableAll = false; // failures are shown in words; the console stays for real errors

const KEEP = 0.5; // seconds kept between the picture and the newest frame

const CONFIG = {
  enableWorker: false,      // its worker is made from a blob, which the page's policy forbids
  enableStashBuffer: false, // hand frames on as they come
  lazyLoad: false,
  // A little behind: play 10 % faster until it is caught up. Far behind (a burst at the start, a sleeping tab): jump.
  liveSync: true,
  liveSyncMaxLatency: 1.5,
  liveSyncTargetLatency: 0.8,
  liveSyncPlaybackRate: 1.1,
  liveBufferLatencyChasing: true,
  liveBufferLatencyMaxLatency: 4,
  liveBufferLatencyMinRemain: KEEP,
  autoCleanupSourceBuffer: true,
  autoCleanupMaxBackwardDuration: 60,
  autoCleanupMinBackwardDuration: 30,
};

start({
  label: "HTTP-FLV",
  output: "flv",
  media: "live.flv",
  unsupported: mpegts.isSupported() ? null : "HTTP-FLV needs Media Source Extensions, which are missing here. The HLS player above does without.",

  open(video, url) {
    const { outcome, settle } = pending();
    const player = mpegts.createPlayer({ type: "flv", isLive: true, url }, CONFIG);
    player.on(mpegts.Events.LOADING_COMPLETE ?? "", () => settle("ended"));
    player.on(mpegts.Events.ERROR ?? "", (type, detail, info) => {
      const words = String(info?.msg ?? detail);
      if (type === mpegts.ErrorTypes.NETWORK_ERROR) settle(info?.code === 401 || info?.code === 403 ? "denied" : "lost", words);
      else settle(isUnsupported(detail, words) ? "codec" : "lost", words);
    });
    video.addEventListener("error", decodeError);
    /** The element itself gave up. */
    function decodeError() {
      if (video.error) settle(video.error.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED ? "codec" : "lost", video.error.message);
    }
    player.attachMediaElement(video);
    player.load();
    const walker = setInterval(() => { if (!video.paused && !video.seeking) stepOverHole(video); }, 500);
    let open = true;
    return {
      outcome,
      delay() {
        const end = newest(video);
        return end === null ? null : end - video.currentTime;
      },
      toLive() {
        const end = newest(video);
        if (end !== null && end - video.currentTime > 1) video.currentTime = end - KEEP;
      },
      close() {
        if (!open) return;
        open = false;
        clearInterval(walker);
        video.removeEventListener("error", decodeError);
        player.destroy();
        empty(video);
      },
    };
  },
});

/**
 * @param {string} detail
 * @param {string} words
 * @returns {boolean} is it the codec, and not this connection?
 */
function isUnsupported(detail, words) {
  return detail === mpegts.ErrorDetails.MEDIA_CODEC_UNSUPPORTED || detail === mpegts.ErrorDetails.MEDIA_FORMAT_UNSUPPORTED
    || /unsupported|not supported/i.test(words);
}
