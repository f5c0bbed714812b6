/** The captions of a film in its dialog: their list, and a form that adds a WebVTT or SubRip file. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { t } from "../../i18n.js";
import { toast } from "../../toast.js";
import { Button, Field, html, IconButton } from "../../ui.js";
import { reason } from "../parts/trouble.js";

/** @typedef {import("./model.js").Film} Film */

/** @param {{film: Film, path: string, onChanged: (film: Film) => void}} props  path: the film's key in URLs */
export function Captions({ film, path, onChanged }) {
  const [language, setLanguage] = useState("");
  const [label, setLabel] = useState("");
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [busy, setBusy] = useState(false);
  /** @param {() => Promise<Film>} change @param {string} done */
  const run = async (change, done) => {
    setBusy(true);
    try {
      onChanged(await change());
      toast(done, "ok");
    } catch (error) {
      toast(reason(error), "bad");
    } finally {
      setBusy(false);
    }
  };
  const add = () => run(() => api.put(`${address(path, language.trim())}?label=${encodeURIComponent(label)}`, file), t("films.captionsAdded"));
  return html`<section class="stack" aria-label=${t("films.captions")}>
    <h3>${t("films.captions")}</h3>
    ${film.captions.length > 0 && html`<ul class="film-captions">${film.captions.map((each) => html`<li key=${each.language} class="row">
      <span dir="auto">${each.label}</span><span class="soft">${each.language}</span>
      <${IconButton} icon="delete" label=${t("films.captionsRemove", { name: each.label })}
        onClick=${() => run(() => api.delete(address(path, each.language)), t("films.captionsRemoved"))} />
    </li>`)}</ul>`}
    <form class="row" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); if (!busy && file) void add(); }}>
      <${Field} label=${t("films.captionsLanguage")} value=${language} onInput=${setLanguage} placeholder="en" required maxlength="16" />
      <${Field} label=${t("films.captionsLabel")} value=${label} onInput=${setLabel} placeholder="English" maxlength="64" />
      <input type="file" accept=".vtt,.srt" aria-label=${t("films.captionsFile")} required
        onChange=${(/** @type {Event} */ { target }) => setFile(/** @type {HTMLInputElement} */ (target).files?.[0] ?? null)} />
      <${Button} type="submit" busy=${busy}>${t("films.captionsAdd")}<//>
    </form>
  </section>`;
}

/** @param {string} path @param {string} language */
const address = (path, language) => `/filmcaptions/${path}/${encodeURIComponent(language)}`;
