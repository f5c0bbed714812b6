/** Plays an HLS address in a video element, with hls.js or, on Apple's devices, the browser itself. */

/** @typedef {typeof import("hls.js").default} HlsClass */

/** The reason why it does not play. @typedef {"network" | "media" | "unsupported"} Trouble */

// Chromium answers "maybe" too, but plays worse than hls.js. So only Apple's browsers count.
const native = /apple/i.test(navigator.vendor)
  && document.createElement("video").canPlayType("application/vnd.apple.mpegurl") !== "";

/** @type {Promise<HlsClass> | null} */
let library = null;

/** @returns {Promise<HlsClass>} */
function load() {
  const file = new URL("../../../vendor/hls.js/hls.min.js", import.meta.url).href;
  library ??= /** @type {Promise<typeof import("hls.js")>} */ (import(file)).then((module) => module.default);
  return library;
}

/**
 * Plays until it is closed.
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {(trouble: Trouble) => void} told  called once, when playback fails
 * @returns {() => void}  stops it; may be called twice
 */
export function playHls(video, url, told) {
  let close = () => undefined;
  let open = true;
  const fail = (/** @type {Trouble} */ trouble) => { if (open) { stop(); told(trouble); } };
  const stop = () => { open = false; close(); };
  if (native) {
    const listening = new AbortController();
    video.addEventListener("error", () => fail(video.error?.code === MediaError.MEDIA_ERR_NETWORK ? "network" : "media"),
      { signal: listening.signal });
    video.src = url;
    close = () => { listening.abort(); empty(video); return undefined; };
    return stop;
  }
  load().then((Hls) => {
    if (!open) return;
    if (!Hls.isSupported()) return fail("unsupported");
    const hls = new Hls({ workerPath: new URL("../../../vendor/hls.js/hls.worker.js", import.meta.url).href });
    let repairs = 0;
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      // hls.js can recover from a decoder error. After more than two the media are broken.
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && repairs++ < 2) hls.recoverMediaError();
      else fail(data.type === Hls.ErrorTypes.NETWORK_ERROR ? "network" : "media");
    });
    hls.attachMedia(video);
    hls.loadSource(url);
    close = () => { hls.destroy(); empty(video); return undefined; };
  }, () => fail("unsupported"));
  return stop;
}

/**
 * Frees the element's decoder, because the number of decoders is limited.
 * @param {HTMLVideoElement} video
 */
export function empty(video) {
  video.removeAttribute("src");
  video.load();
}
