/** Opens recorded media in a video element: a file, or HLS by hls.js or, on Apple's devices, the browser itself. */

import { breakChapters } from "./chapters.js";
import Hls from "./hls.min.js";
import { keepPlaying } from "./hls-playing.js";
import { empty, nativeHls } from "./media.js";

/** The reason why it does not play. @typedef {"denied" | "lost" | "codec"} Trouble */

const MAX_REPAIRS = 2; // recoveries from decoder errors; after more, the media are broken
const BUFFER_BYTES = 60_000_000;

/**
 * @param {HTMLVideoElement} video
 * @param {string} url    absolute, with the page's own query
 * @param {boolean} hls   whether it is a playlist
 * @param {number} at     seconds at which playback begins
 * @param {(trouble: Trouble) => void} fail  called once
 * @param {(chapters: import("./chapters.js").Chapter[]) => void} [tell]  called with the chapters of a playlist
 * @returns {() => void}  closes it; may be called twice
 */
export function open(video, url, hls, at, fail, tell) {
  if (hls && !nativeHls) return openHlsJs(video, url, at, fail, tell);
  const listening = new AbortController();
  const { signal } = listening;
  const close = () => {
    if (signal.aborted) return;
    listening.abort();
    empty(video);
  };
  video.addEventListener("error", () => {
    const { error } = video;
    if (!error) return;
    listening.abort();
    // A browser reports a refused or missing file as an unsupported source, so the server is asked.
    if (error.code === MediaError.MEDIA_ERR_DECODE) fail("codec");
    else void reason(url).then(fail);
  }, { signal });
  video.addEventListener("loadedmetadata", () => { if (at) video.currentTime = at; }, { signal, once: true });
  video.src = url;
  return close;
}

/** @param {string} url @returns {Promise<Trouble>} */
async function reason(url) {
  try {
    const { status, ok } = await fetch(url, { method: "HEAD", cache: "no-store" });
    return status === 401 || status === 403 ? "denied" : ok ? "codec" : "lost";
  } catch {
    return "lost"; // no connection
  }
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {number} at
 * @param {(trouble: Trouble) => void} fail
 * @param {(chapters: import("./chapters.js").Chapter[]) => void} [tell]
 * @returns {() => void}
 */
function openHlsJs(video, url, at, fail, tell) {
  if (!Hls.isSupported()) {
    queueMicrotask(() => fail("codec"));
    return () => undefined;
  }
  const hls = new Hls({
    workerPath: new URL("./hls.worker.js", import.meta.url).href,
    startPosition: at, // a recording that still grows begins at its first picture too
    maxBufferSize: BUFFER_BYTES,
  });
  let repairs = 0;
  let closed = false;
  const close = () => {
    if (closed) return;
    closed = true;
    hls.destroy();
    empty(video);
  };
  hls.on(Hls.Events.ERROR, (_, data) => {
    if (!data.fatal || closed) return;
    const wrongCodec = data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR
      || data.details === Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR || data.details === Hls.ErrorDetails.BUFFER_INCOMPATIBLE_CODECS_ERROR;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && !wrongCodec && repairs++ < MAX_REPAIRS) return hls.recoverMediaError();
    close();
    const status = data.response?.code;
    fail(wrongCodec || data.type === Hls.ErrorTypes.MEDIA_ERROR ? "codec" : status === 401 || status === 403 ? "denied" : "lost");
  });
  keepPlaying(hls, video);
  hls.on(Hls.Events.LEVEL_LOADED, (_, { details }) => tell?.(breakChapters(Object.values(details.dateRanges))));
  hls.attachMedia(video);
  hls.loadSource(url);
  return close;
}
