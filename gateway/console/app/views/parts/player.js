/** A player for a stored video, from a file or an HLS address. It shows a message if playback fails. */

import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../../html.js";
import { t } from "../../i18n.js";

/**
 * @param {{src: string, label: string, hls?: boolean, poster?: string | null, autoplay?: boolean}} props
 */
export function Player({ src, label, hls = false, poster = null, autoplay = false }) {
  const place = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const [trouble, setTrouble] = useState(/** @type {import("../../../players/recorded-source.js").Trouble | null} */ (null));

  useEffect(() => {
    const video = place.current;
    if (video === null) return undefined;
    setTrouble(null);
    let open = true;
    let close = () => {};
    // It brings hls.js, which most views of the console do not need.
    import("../../../players/recorded-source.js").then((source) => {
      if (open) close = source.open(video, new URL(src, location.href).href, hls, 0, setTrouble);
    }, () => setTrouble("lost"));
    return () => { open = false; close(); };
  }, [src, hls]);

  return html`<div class="film">
    <video class="film-video" ref=${place} controls playsinline autoplay=${autoplay} preload="metadata" aria-label=${label}
      poster=${poster ?? undefined} hidden=${trouble !== null}></video>
    ${trouble !== null && html`<p class="film-trouble" role="alert">${t(`player.${trouble}`)}</p>`}
  </div>`;
}
