/** A picture that a user chooses from the device: shown, replaced and removed at once. */

import { useRef, useState } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { html } from "../html.js";
import { t } from "../i18n.js";
import { Button } from "./button.js";

const MOST = 8_000_000; // bytes that the gateway takes

/**
 * @param {{label: string, hint?: string, source: string | null, path: string, onChanged: (answer: any) => void}} props
 *   source: the address of the picture now. path: takes PUT with a file, and DELETE
 */
export function PictureField({ label, hint, source, path, onChanged }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const run = async (/** @type {() => Promise<any>} */ request) => {
    setBusy(true);
    setError("");
    try {
      onChanged(await request());
    } catch (problem) {
      if (!isAbort(problem)) setError(problem instanceof Error ? problem.message : String(problem));
    }
    setBusy(false);
  };
  const chosen = (/** @type {Event} */ event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const file = field.files?.[0];
    field.value = ""; // the same file may be chosen again
    if (file && file.size > MOST) setError(t("picture.large", { n: MOST / 1_000_000 }));
    else if (file) void run(() => api.put(path, file));
  };
  return html`<div class="field picture-field" role="group" aria-label=${label}>
    <span class="label">${label}</span>
    ${source && html`<img src=${source} alt=${label} />`}
    <input ref=${input} type="file" accept="image/png,image/jpeg,image/webp" hidden onChange=${chosen} />
    <div class="row">
      <${Button} small icon="image" busy=${busy} onClick=${() => input.current?.click()}>${t(source ? "picture.replace" : "picture.choose")}<//>
      ${source && html`<${Button} small kind="quiet" onClick=${() => run(() => api.delete(path))}>${t("picture.remove")}<//>`}
    </div>
    ${hint && html`<p class="hint">${hint}</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
  </div>`;
}
