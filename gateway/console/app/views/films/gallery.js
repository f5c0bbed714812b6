/** The posters of finished videos, and a player for the selected one. */

import { useSignal } from "@preact/signals";

import { Dialog } from "../../dialog.js";
import { moment } from "../../format.js";
import { t } from "../../i18n.js";
import { CopyField, Facts, html, Icon } from "../../ui.js";
import { Player } from "../parts/player.js";
import { title } from "./names.js";

/** @typedef {import("./model.js").Job} Job */

/** @param {{films: readonly Job[]}} props */
export function Gallery({ films }) {
  const opened = useSignal(/** @type {Job | null} */ (null));
  return html`<ul class="shelf">${films.map((film) => html`<li key=${film.id}><article class="shelf-card">
      <button type="button" class="shelf-open" aria-label=${t("films.playOf", { name: title(film.source) })}
        onClick=${() => { opened.value = film; }}>
        <span class="shelf-picture"><${Icon} name="films" size=${34} />
          ${film.outputs["poster"] && html`<img src=${film.outputs["poster"]} alt="" loading="lazy" decoding="async" />`}
          <span class="shelf-play"><${Icon} name="play" size=${22} /></span></span>
      </button>
      <div class="shelf-words"><b title=${film.source}>${title(film.source)}</b>
        <time datetime=${film.updated}>${moment(film.updated)}</time></div>
    </article></li>`)}</ul>
    ${opened.value && html`<${Film} film=${opened.value} onClose=${() => { opened.value = null; }} />`}`;
}

/** @param {{film: Job, onClose: () => void}} props */
export function Film({ film, onClose }) {
  const { hls = "", poster = null, thumbnail = null } = film.outputs;
  return html`<${Dialog} wide class="viewer" title=${title(film.source)} onClose=${onClose}>
    <${Player} src=${hls} hls poster=${poster} label=${title(film.source)} autoplay />
    <${Facts} facts=${[
      { label: t("films.source"), value: film.source },
      { label: t("films.finished"), value: moment(film.updated) },
    ]} />
    <${CopyField} label=${t("films.address")} value=${hls} />
    ${poster && html`<${CopyField} label=${t("films.poster")} value=${poster} />`}
    ${thumbnail && html`<${CopyField} label=${t("films.thumbnail")} value=${thumbnail}
      after=${html`<img class="film-thumbnail" src=${thumbnail} alt=${t("films.thumbnailOf", { name: title(film.source) })} />`} />`}
  <//>`;
}
