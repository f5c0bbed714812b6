/** A player for a stored video, from a file or an HLS address. It shows a message if playback fails. */

import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../../html.js";
import { t } from "../../i18n.js";
import { empty, playHls } from "./hls.js";

/**
 * @param {{src: string, label: string, hls?: boolean, poster?: string | null, autoplay?: boolean}} props
 */
export function Player({ src, label, hls = false, poster = null, autoplay = false }) {
  const place = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [trouble, setTrouble] = useState(/** @type {import("./hls.js").Trouble | null} */ (null));

  useEffect(() => {
    const video = place.current;
    if (video === null) return undefined;
    setTrouble(null);
    /** @type {() => void} */
    let close;
    if (hls) close = playHls(video, src, setTrouble);
    else {
      const listening = new AbortController();
      video.addEventListener("error", () => {
        setTrouble(video.error?.code === MediaError.MEDIA_ERR_NETWORK ? "network" : "media");
      }, { signal: listening.signal });
      video.src = src;
      close = () => { listening.abort(); empty(video); };
    }
    return close;
  }, [src, hls]);

  return html`<div class="film">
    <video class="film-video" ref=${place} controls playsinline autoplay=${autoplay} preload="metadata" aria-label=${label}
      poster=${poster ?? undefined} hidden=${trouble !== null}></video>
    ${trouble !== null && html`<p class="film-trouble" role="alert">${t(`player.${trouble}`)}</p>`}
  </div>`;
}
