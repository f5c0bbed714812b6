/** A QR code that stands on the page. */

import { useState } from "preact/hooks";

import { t } from "../../i18n.js";
import { html } from "../../ui.js";

/**
 * An address as a QR code that the gateway draws. Its space is reserved until the image is loaded.
 * @param {{src: string, label: string}} props
 */
export function QrFigure({ src, label }) {
  const [state, setState] = useState("loading");
  if (state === "failed") return null;
  return html`<figure class="qr"><span class="paper">
    <img key=${src} class=${state} src=${src} width="132" height="132" alt=${t("qr.alt", { what: label })}
    onLoad=${() => setState("there")} onError=${() => setState("failed")} /></span><figcaption>${label}</figcaption></figure>`;
}
