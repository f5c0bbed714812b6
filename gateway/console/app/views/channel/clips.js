/** Clips and exports of a channel that records. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { fromLocal, isOn, toLocal } from "../../channel.js";
import { t } from "../../i18n.js";
import { observes } from "../../session.js";
import { Button, Card, CopyField, Field, html, LinkButton, Notice } from "../../ui.js";
import { ExportLink } from "../parts/export-link.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {{url: string, seconds: number}} Clip */

const LAST = [30, 120]; // seconds
const RANGE = 300_000; // ms, of the first shown time range

/** @param {Channel} channel */
const records = (channel) => isOn(channel["isOnDemand"]) || isOn(channel["isVideo"]) || Number(channel["rewind"]) > 0;

/** @param {number} time @returns {string} */
const shown = (time) => `${toLocal(new Date(time))}:${String(new Date(time).getSeconds()).padStart(2, "0")}`;

/** Returns the address of the clip's player page, with the signature of the clip. @param {string} url @returns {string} */
function pageOf(url) {
  const page = new URL(url);
  page.pathname += "/";
  return page.href;
}

/** @param {{channel: Channel}} props */
export function Clips({ channel }) {
  const [edited, setEdited] = useState(/** @type {{from: string, to: string} | null} */ (null)); // null: the last time until now
  const { from, to } = edited ?? { from: shown(Date.now() - RANGE), to: shown(Date.now()) };
  const hold = () => setEdited({ from, to });
  const [busy, setBusy] = useState("");
  const [clip, setClip] = useState(/** @type {Clip | null} */ (null));
  const [error, setError] = useState("");
  if (!records(channel)) return null;
  const path = `/videostream/${encodeURIComponent(channel.id)}`;

  const make = async (/** @type {string} */ name, /** @type {object} */ body) => {
    setBusy(name);
    setError("");
    setClip(null);
    try {
      setClip(await api.post(`${path}/clips`, body));
    } catch (problem) {
      setError(/** @type {Error} */ (problem).message);
    }
    setBusy("");
  };
  const range = { from: fromLocal(from) ?? from, to: fromLocal(to) ?? to };
  const button = (/** @type {string} */ name, /** @type {string} */ label, /** @type {object} */ body) => html`<${Button} key=${name}
    icon="record" busy=${busy === name} disabled=${busy !== "" && busy !== name} onClick=${() => make(name, body)}>${label}<//>`;
  return html`<${Card} title=${t("clips.title")} class="is-clips">
    <div class="stack">
      <p class="hint">${t("clips.text")}</p>
      ${!observes.value && html`<div class="row">${LAST.map((n) => button(String(n), n < 60 ? t("clips.seconds", { n }) : t("clips.minutes", { n: n / 60 }), { last: n }))}</div>`}
      <div class="columns">
        <${Field} label=${t("clips.from")} type="datetime-local" step="1" value=${from} onFocus=${hold}
          onInput=${(/** @type {string} */ value) => setEdited({ from: value, to })} />
        <${Field} label=${t("clips.to")} type="datetime-local" step="1" value=${to} onFocus=${hold}
          onInput=${(/** @type {string} */ value) => setEdited({ from, to: value })} />
      </div>
      <div class="row">
        ${!observes.value && button("range", t("clips.make"), range)}
        <${ExportLink} href=${`${path}/export?${new URLSearchParams(range)}`}>${t("clips.export")}<//>
      </div>
      <div role="status">${busy && html`<p class="hint">${t("clips.busy")}</p>`}
        ${clip && html`<${CopyField} label=${t("clips.done", { n: Math.round(clip.seconds * 10) / 10 })} name=${t("clips.address")} value=${clip.url} />
          <p class="gap"><${LinkButton} small external icon="play" href=${pageOf(clip.url)}>${t("clips.open")}<//></p>`}</div>
      ${error && html`<${Notice} kind="bad" role="alert">${error}<//>`}
    </div>
  <//>`;
}
