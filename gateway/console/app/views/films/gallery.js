/** The posters of the films, and the dialog of the selected one: player, addresses, title, and deletion. */

import { useSignal } from "@preact/signals";
import { useState } from "preact/hooks";

import { api, ApiError } from "../../../players/api.js";
import { embedCode } from "../../../players/embed.js";
import { ask, Dialog } from "../../dialog.js";
import { bytes, duration, moment } from "../../format.js";
import { t } from "../../i18n.js";
import { administers } from "../../session.js";
import { toast } from "../../toast.js";
import { Badge, Button, CopyField, Facts, Field, html, Icon, LinkButton } from "../../ui.js";
import { Player } from "../parts/player.js";
import { QrFigure } from "../parts/qr.js";
import { reason } from "../parts/trouble.js";
import { toastDeleted } from "../parts/undo.js";
import { Captions } from "./captions.js";
import { TONES } from "./model.js";

/** @typedef {import("./model.js").Film} Film */
/** @typedef {(key: string, film: Film | null) => void} OnChanged  null: the film was deleted */

/** @param {string} key */
const path = (key) => key.split("/").map(encodeURIComponent).join("/");

/** @param {{films: readonly Film[], onChanged: OnChanged, onRestored: () => void}} props */
export function Gallery({ films, onChanged, onRestored }) {
  const opened = useSignal("");
  const shown = films.find((film) => film.key === opened.value);
  return html`<ul class="shelf">${films.map((film) => html`<li key=${film.key}><article class="shelf-card">
      <div class="shelf-frame">
        <button type="button" class="shelf-open" aria-label=${t("films.openOf", { name: film.title })}
          onClick=${() => { opened.value = film.key; }}>
          <span class="shelf-picture"><${Icon} name="films" size=${34} />
            ${film.poster && html`<img src=${film.poster} alt="" loading="lazy" decoding="async" />`}
            ${film.hls && html`<span class="shelf-play"><${Icon} name="play" size=${22} /></span>`}</span>
        </button>
        ${film.duration !== null && html`<span class="shelf-time">${duration(film.duration)}</span>`}
        ${film.state !== "READY" && html`<span class="shelf-badge">
          <${Badge} kind=${TONES[film.state === "ERROR" ? "ERROR" : "PROGRESSING"]}>${t(`films.film.${film.state}`)}<//></span>`}
      </div>
      <div class="shelf-words"><b title=${film.title} dir="auto">${film.title}</b>
        <time datetime=${film.created}>${moment(film.created)}</time></div>
    </article></li>`)}</ul>
    ${shown && html`<${FilmDialog} key=${shown.key} film=${shown} onChanged=${onChanged} onRestored=${onRestored}
      onClose=${() => { opened.value = ""; }} />`}`;
}

/** @param {{film: Film, onChanged: OnChanged, onRestored: () => void, onClose: () => void}} props */
function FilmDialog({ film, onChanged, onRestored, onClose }) {
  const [editing, setEditing] = useState(false);
  if (editing) return html`<${Edit} film=${film} onChanged=${onChanged} onClose=${() => setEditing(false)} />`;
  const remove = async () => {
    const done = await ask({
      title: t("films.deleteTitle"), text: t("films.deleteText", { name: film.title }), confirm: t("views.delete"), danger: true,
      run: () => api.delete(`/films/${path(film.key)}`),
    });
    if (!done) return;
    toastDeleted(t("films.deleted"), [film.key], onRestored);
    onChanged(film.key, null);
    onClose();
  };
  return html`<${Dialog} wide class="viewer" title=${film.title} onClose=${onClose} footer=${html`
      ${administers.value && html`<${Button} kind="plain" class="warns" icon="delete" onClick=${remove}>${t("views.delete")}<//>
        <${Button} icon="edit" onClick=${() => setEditing(true)}>${t("films.edit")}<//>`}
      ${film.hls && html`<${LinkButton} kind="primary" icon="external" external href=${film.page}>${t("films.page")}<//>`}`}>
    ${film.hls && html`<${Player} src=${film.hls} hls poster=${film.poster} label=${film.title} autoplay />`}
    ${film.description && html`<p class="film-about" dir="auto">${film.description}</p>`}
    ${film.error && html`<p class="error">${film.error}</p>`}
    <${Facts} facts=${[
      { label: t("films.created"), value: moment(film.created) },
      ...(film.duration === null ? [] : [{ label: t("films.length"), value: duration(film.duration) }]),
      ...(film.size === null ? [] : [{ label: t("films.size"), value: bytes(film.size) }]),
      ...(film.source ? [{ label: t("films.source"), value: film.source }] : []),
    ]} />
    ${film.hls && html`<div class="addresses"><div class="stack">
        <${CopyField} label=${t("films.pageAddress")} value=${film.page} />
        <${CopyField} label=${t("films.embed")} value=${embedCode(film.page)} />
        <${CopyField} label=${t("films.address")} value=${film.hls} />
        ${film.poster && html`<${CopyField} label=${t("films.poster")} value=${film.poster} />`}
      </div>
      <${QrFigure} src=${`/filmqr/${path(film.key)}`} label=${t("films.pageAddress")} />
    </div>
    ${administers.value && html`<${Captions} film=${film} path=${path(film.key)} onChanged=${(/** @type {Film} */ changed) => onChanged(film.key, changed)} />`}`}
  <//>`;
}

/** @param {{film: Film, onChanged: OnChanged, onClose: () => void}} props */
function Edit({ film, onChanged, onClose }) {
  const [title, setTitle] = useState(film.title);
  const [description, setDescription] = useState(film.description);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(/** @type {Record<string, string>} */ ({}));
  const save = async () => {
    setBusy(true);
    setWrong({});
    try {
      onChanged(film.key, await api.put(`/films/${path(film.key)}`, { title: title.trim(), description }));
      toast(t("films.saved"), "ok");
      onClose();
    } catch (error) {
      setBusy(false);
      if (error instanceof ApiError && error.field) setWrong({ [error.field]: error.message });
      else toast(reason(error), "bad");
    }
  };
  return html`<${Dialog} title=${t("films.edit")} onClose=${onClose} onSubmit=${save} footer=${html`
      <${Button} onClick=${onClose} disabled=${busy}>${t("cancel")}<//>
      <${Button} type="submit" kind="primary" busy=${busy}>${t("films.save")}<//>`}>
    <div class="stack">
      <${Field} label=${t("films.name")} value=${title} onInput=${setTitle} required maxlength="200" error=${wrong["title"]} />
      <${Field} label=${t("films.description")} value=${description} onInput=${setDescription} rows=${5} maxlength="5000"
        error=${wrong["description"]} />
    </div>
  <//>`;
}
