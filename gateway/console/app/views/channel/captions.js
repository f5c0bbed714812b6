/** The captions of a live channel: each track with its last text, and a field to send one. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { sourceName } from "../../editor/captions.js";
import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";
import { observes } from "../../session.js";
import { Button, Card, Field, html, LinkButton, Select } from "../../ui.js";
import { reason } from "../parts/trouble.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../editor/fields.js").Caption & {found: boolean, last: string}} Track */

const EVERY = 3_000; // ms
const MOST = 500;    // characters

/** The page of a captioner, which asks for the stream key. @param {Channel} channel @returns {string | null} */
function pageOf(channel) {
  const base = Object.values(channel.playUrls).find((url) => url.startsWith("http"));
  if (!base) return null;
  const page = new URL(base);
  page.pathname = `${page.pathname.split("/")[1]}/caption.html`;
  page.search = page.search.replace(/([?&])sign=/, "$1play=");
  return page.href;
}

/** @param {{channel: Channel}} props */
export function Captions({ channel }) {
  const path = `/videostream/${encodeURIComponent(channel.id)}/captions`;
  const tracks = /** @type {Track[]} */ (usePoll(path, EVERY).value.data ?? []);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const texts = tracks.filter(({ source }) => source === "text");
  const language = texts.some((track) => track.language === chosen) ? chosen : texts[0]?.language ?? "";
  const page = pageOf(channel);
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!text.trim() || busy) return;
    setBusy(true);
    setText(""); // the next line may be typed at once
    try {
      await api.post(path, { text: text.trim(), language });
      setError("");
      refresh(path);
    } catch (problem) {
      setError(reason(problem));
      setText((typed) => typed || text);
    }
    setBusy(false);
  };
  return html`<${Card} title=${t("captions.title")} class="is-captions"
    actions=${page && !observes.value && html`<${LinkButton} small external icon="edit" href=${page}>${t("captions.page")}<//>`}>
    <div class="stack">
      ${tracks.length === 0 && html`<p class="hint">${t("captions.none")}</p>`}
      ${tracks.length > 0 && html`<ul class="caption-tracks">${tracks.map((track) => html`<li key=${`${track.source} ${track.language}`}>
        <span><b>${track.label || sourceName(track.source)}</b> <span class="sub">${sourceName(track.source)}</span></span>
        <span dir="auto" lang=${track.language || undefined}>${track.last || html`<span class="soft">${t("captions.nothing")}</span>`}</span>
      </li>`)}</ul>`}
      ${!observes.value && html`<form class="row nowrap" onSubmit=${send}>
        ${texts.length > 1 && html`<${Select} hideLabel label=${t("captions.language")} value=${language} onChange=${setChosen}
          options=${texts.map((track) => ({ value: track.language, label: track.label || track.language }))} />`}
        <${Field} class="grow" hideLabel label=${t("captions.text")} placeholder=${t("captions.text")} value=${text} maxlength=${MOST}
          dir="auto" autocomplete="off" onInput=${setText} />
        <${Button} type="submit" busy=${busy} disabled=${!text.trim()}>${t("captions.send")}<//>
      </form>`}
      ${error && html`<p class="error" role="alert">${error}</p>`}
    </div>
  <//>`;
}
