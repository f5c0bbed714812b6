/** A button that shows a text, such as an address, as a QR code. */

import { useEffect, useState } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { ask, Dialog } from "../dialog.js";
import { html } from "../html.js";
import { t } from "../i18n.js";
import { IconButton } from "./button.js";
import { Skeleton } from "./status.js";

const MOST = 1024; // bytes that the gateway draws

/** @param {string} text @returns {boolean} whether this is an address that a phone can open */
export const isScannable = (text) => /^[a-z]+:\/\//i.test(text) && new TextEncoder().encode(text).length <= MOST;

/**
 * The button is named "QR code of <label>".
 * @param {{label: string, value: string, secret: boolean}} props  secret: the page hides a part of the value, so it asks first
 */
export function QrButton({ label, value, secret }) {
  const [open, setOpen] = useState(false);
  const show = async () => {
    const name = t("qr.alt", { what: label });
    if (!secret || await ask({ title: name, text: t("qr.secret"), confirm: t("qr.show") })) setOpen(true);
  };
  return html`<${IconButton} icon="qr" label=${t("qr.alt", { what: label })} onClick=${show} />
    ${open && html`<${QrDialog} label=${label} value=${value} onClose=${() => setOpen(false)} />`}`;
}

/** @param {{label: string, value: string, onClose: () => void}} props */
function QrDialog({ label, value, onClose }) {
  const [svg, setSvg] = useState("");
  const [error, setError] = useState("");
  const name = t("qr.alt", { what: label });
  useEffect(() => {
    const gone = new AbortController();
    api.post("/qr", { text: value }, { signal: gone.signal }).then((made) => setSvg(made.svg), (problem) => {
      if (!isAbort(problem)) setError(problem.message);
    });
    return () => gone.abort();
  }, [value]);
  return html`<${Dialog} class="qr-dialog" title=${name} onClose=${onClose}>
    ${error ? html`<p class="error" role="alert">${error}</p>` : svg
      ? html`<span class="paper"><img src=${`data:image/svg+xml,${encodeURIComponent(svg)}`} alt=${name} /></span>`
      : html`<${Skeleton} lines=${4} />`}
    <p class="hint">${t(value.startsWith("http") ? "qr.hint" : "qr.hint.app")}</p>
  <//>`;
}
