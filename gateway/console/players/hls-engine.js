/** One idea: HLS through hls.js, or by the browser itself on Apple's devices. */

import Hls from "./hls.min.js";
import { empty, newest, pending } from "./media.js";
import { AUTO, SOURCE } from "./quality.js";

/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").OpenEngine} OpenEngine */

// Chromium answers "maybe" to this too, and plays low-latency playlists worse than hls.js does: only Apple's count.
const native = /apple/i.test(navigator.vendor)
  && document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";

/** @type {string | null} */
export const unsupported = native || Hls.isSupported() ? null : "HLS needs Media Source Extensions, which are missing here.";

/**
 * @param {boolean} lowLatency  follow parts, not whole segments
 * @returns {OpenEngine}
 */
export function hlsEngine(lowLatency) {
  return (video, url, now) => native ? openNative(video, url, now) : openHlsJs(video, url, now, lowLatency);
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {() => number} now
 * @param {boolean} lowLatency
 * @returns {Engine}
 */
function openHlsJs(video, url, now, lowLatency) {
  const { outcome, settle } = pending();
  const hls = new Hls({
    lowLatencyMode: lowLatency,
    // A file beside this one, wherever these are served: a worker from a blob would need a weaker policy.
    workerPath: new URL("hls.worker.js", import.meta.url).href,
    // Catch up by playing faster, at most this much; 1 leaves whole-segment HLS at its own pace.
    maxLiveSyncPlaybackRate: lowLatency ? 1.1 : 1,
    liveSyncMode: "edge",
    backBufferLength: 30,
    // What the page handles itself, by asking the status first.
    manifestLoadPolicy: { default: { maxTimeToFirstByteMs: 10000, maxLoadTimeMs: 20000, timeoutRetry: null, errorRetry: null } },
  });
  let repairs = 0;
  hls.on(Hls.Events.ERROR, (_, data) => {
    const code = data.response?.code;
    if (code === 401 || code === 403) return settle("denied");
    if (!data.fatal) return;
    if (data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || data.details === Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR
      || data.details === Hls.ErrorDetails.BUFFER_INCOMPATIBLE_CODECS_ERROR) return settle("codec", data.error?.message ?? data.details);
    // hls.js knows how to mend a broken decoder; more than twice means that the media are at fault.
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && repairs++ < 2) return hls.recoverMediaError();
    settle("lost", data.details);
  });
  let wanted = AUTO;
  const apply = () => { hls.nextLevel = hls.levels.findIndex((level) => nameOf(level.url[0] ?? "", url) === wanted); };
  hls.on(Hls.Events.MANIFEST_PARSED, () => { if (wanted !== AUTO) apply(); });
  const ended = () => settle("ended");
  video.addEventListener("ended", ended);
  hls.attachMedia(video);
  hls.loadSource(url);
  let open = true;
  return {
    outcome,
    delay() {
      const shown = hls.playingDate?.getTime();
      const behind = shown === undefined ? NaN : (now() - shown) / 1000;
      // A clock that is wrong by hours is worse than the playlist's own estimate.
      if (behind > -1 && behind < 300) return Math.max(0, behind);
      return hls.latency > 0 ? hls.latency : null;
    },
    toLive() {
      const edge = hls.liveSyncPosition;
      if (edge !== null && edge > video.currentTime + 0.5) video.currentTime = edge;
    },
    qualities: () => hls.levels.map(({ url: [at = ""], height = 0, bitrate }) => ({ id: nameOf(at, url), height, bitrate })),
    quality(id) {
      if (id === wanted) return;
      wanted = id;
      if (hls.levels.length) apply(); // -1, where there is none of that name, lets hls.js choose
    },
    shown() {
      const level = hls.levels[hls.currentLevel];
      return level ? nameOf(level.url[0] ?? "", url) : null;
    },
    close() {
      if (!open) return;
      open = false;
      video.removeEventListener("ended", ended);
      hls.destroy();
      empty(video);
    },
  };
}

/**
 * @param {string} level     the address of a level's playlist: renditions lie in folders of their names
 * @param {string} manifest  the address of what lists it
 * @returns {string} which quality it is
 */
function nameOf(level, manifest) {
  const base = new URL(".", manifest).pathname;
  const path = new URL(level, manifest).pathname;
  const [folder, ...rest] = path.startsWith(base) ? path.slice(base.length).split("/") : [];
  return folder && rest.length && folder !== "video" ? decodeURIComponent(folder) : SOURCE;
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {() => number} now
 * @returns {Engine}
 */
function openNative(video, url, now) {
  const { outcome, settle } = pending();
  const listening = new AbortController();
  const { signal } = listening;
  video.addEventListener("ended", () => settle("ended"), { signal });
  video.addEventListener("error", () => {
    if (video.error) settle(video.error.code === MediaError.MEDIA_ERR_DECODE ? "codec" : "lost", video.error.message);
  }, { signal });
  video.src = url;
  return {
    outcome,
    delay() {
      const start = /** @type {{getStartDate?: () => Date}} */ (/** @type {unknown} */ (video)).getStartDate?.().getTime() ?? NaN;
      const behind = (now() - start) / 1000 - video.currentTime;
      if (behind > -1 && behind < 300) return Math.max(0, behind);
      const end = newest(video);
      return end === null ? null : end - video.currentTime;
    },
    toLive() {
      const { seekable } = video;
      if (seekable.length) video.currentTime = Math.max(0, seekable.end(seekable.length - 1) - 1);
    },
    close() {
      if (signal.aborted) return;
      listening.abort();
      empty(video);
    },
  };
}
