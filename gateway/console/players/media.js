/** Helpers for media elements, used by all engines. */

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Outcome} Outcome */

/** What players by script need. */
export const MSE = "Media Source Extensions";

// Chromium answers "maybe" too, but plays low-latency playlists worse than hls.js. So only Apple's browsers count.
export const apple = /apple/i.test(navigator.vendor)
  && document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";

/** Whether the browser itself plays HLS. hls.js is better where Apple's browsers let it: it knows delay and qualities. */
export const nativeHls = apple && !("ManagedMediaSource" in globalThis);

// moq-dev/moq distrusts that of Firefox and Safari (pull requests 1306, 2417).
export const webTransport = "WebTransport" in globalThis && !/firefox|^(?!.*(chrom|android)).*safari/i.test(navigator.userAgent);

/**
 * Returns a promise, and the function that settles it.
 * @returns {{outcome: Promise<Outcome>, settle: (why: Outcome["why"], detail?: string) => void}}
 */
export function pending() {
  /** @type {(outcome: Outcome) => void} */
  let done = () => undefined;
  /** @type {Promise<Outcome>} */
  const outcome = new Promise((resolve) => { done = resolve; });
  return { outcome, settle: (why, detail = "") => done({ why, detail }) };
}

/** The kinds of a stream's tracks. @param {Status | null} status */
export const kinds = (status) => (status?.tracks ?? []).map(({ kind }) => kind).sort().join();

/**
 * Whether a player by script waits for a track that has ended, also if it began with older segments.
 * @type {(now: Status | null, opened: Status | null, still: HTMLVideoElement | null) => unknown}
 */
export function waitsForEnded(now, opened, still) {
  const has = kinds(now);
  return has && (has !== kinds(opened) || (has === "audio" && still?.videoWidth));
}

/** Waits for up to half a second: viewers do not all ask at once. */
export function spread() { return new Promise((done) => setTimeout(done, Math.random() * 500)); }

/**
 * @param {HTMLVideoElement} video
 * @returns {number | null} the end of what is buffered, seconds of the media timeline
 */
export function newest(video) {
  const { buffered } = video;
  return buffered.length ? buffered.end(buffered.length - 1) : null;
}

/**
 * Skips a gap in the buffer at the current picture. The break of a publisher leaves such a gap.
 * @param {HTMLVideoElement} video
 */
export function stepOverHole(video) {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= currentTime && currentTime < buffered.end(i) - 0.15) return;
    if (buffered.start(i) > currentTime) {
      video.currentTime = buffered.start(i) + 0.01;
      return;
    }
  }
}

/**
 * Goes to the first media, before anything was shown. Where pictures are not in the order of decoding, or sound and pictures
 * begin apart, WebKit is before them and never tells "canplay".
 * @param {HTMLVideoElement} video
 */
export function goToFirst(video) {
  if (video.readyState === HTMLMediaElement.HAVE_METADATA && !video.seeking) stepOverHole(video);
}

/**
 * Why the element failed. After it knew the codecs, none is missing: WebKitGTK has this code for a failed seek, too.
 * @param {HTMLVideoElement} video
 * @returns {"codec" | "lost"}
 */
export function failure({ error, readyState }) {
  return error?.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED && !readyState ? "codec" : "lost";
}

/**
 * Empties the element, so that no old picture stays behind.
 * @param {HTMLVideoElement} video
 */
export function empty(video) {
  video.playbackRate = 1;
  video.removeAttribute("src");
  video.load();
}

/**
 * Gives the page the shape of the video, so that a portrait picture is shown in portrait.
 * @param {HTMLVideoElement} video
 */
export function showShape(video) {
  video.addEventListener("resize", () => {
    const { videoWidth, videoHeight } = video;
    if (videoHeight) document.documentElement.style.setProperty("--shape", `${videoWidth / videoHeight}`);
  });
}
