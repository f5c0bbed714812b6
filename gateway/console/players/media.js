/** Helpers for media elements, used by all engines. */

/** @typedef {import("./types.js").Live} Live */
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

const SPREAD = 500; // ms, in which the viewers of a stream ask

/** The kinds of a stream's tracks. @param {Live["status"] | null} status */
export const kinds = (status) => (status?.tracks ?? []).map(({ kind }) => kind).sort().join();

/**
 * hls.js and dash.js never play a kind of track, such as pictures, that a stream did not have when they opened it.
 * @param {Live} live
 * @param {(why: Outcome["why"]) => void} settle  called with "tracks" if the stream has other kinds now
 * @returns {() => Promise<void>}  to be called where the media do not continue
 */
export function otherTracks(live, settle) {
  const before = kinds(live.status);
  return async () => {
    await new Promise((done) => setTimeout(done, Math.random() * SPREAD));
    const now = kinds(await live.renew().catch(() => null));
    if (now && before && now !== before) settle("tracks");
  };
}

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
