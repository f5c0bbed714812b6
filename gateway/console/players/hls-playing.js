/** What an element needs beside hls.js, so that it begins to play, and plays on. */

import Hls from "./hls.min.js";
import { goToFirst } from "./media.js";

const SETTLE = 250; // ms; WebKitGTK 2.50 may never end a seek that begins while it takes media

/**
 * @param {Hls} hls
 * @param {HTMLVideoElement} video
 */
export function keepPlaying(hls, video) {
  hls.on(Hls.Events.BUFFER_APPENDED, () => setTimeout(() => goToFirst(video), SETTLE));
  // hls.js repairs a decoder error by a new source, which is paused.
  let broken = false;
  const breaks = () => { broken = true; };
  video.addEventListener("error", breaks); // it has paused the element, not the viewer
  hls.on(Hls.Events.ERROR, (_, { type }) => { if (type === Hls.ErrorTypes.MEDIA_ERROR && !video.paused) breaks(); });
  hls.on(Hls.Events.MEDIA_ATTACHED, () => {
    if (broken) video.play().catch(() => undefined); // closed meanwhile
    broken = false;
  });
  hls.on(Hls.Events.DESTROYING, () => video.removeEventListener("error", breaks));
}
