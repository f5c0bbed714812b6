/** The large view of one recording, with its actions. */

import { useEffect, useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { embedCode } from "../../../players/embed.js";
import { ask, Dialog } from "../../dialog.js";
import { bytes, duration, moment, number } from "../../format.js";
import { t } from "../../i18n.js";
import { channelHref } from "../../router.js";
import { administers } from "../../session.js";
import { Button, CopyField, Facts, html, IconButton, LinkButton } from "../../ui.js";
import { ExportLink } from "../parts/export-link.js";
import { Player } from "../parts/player.js";
import { deleteRecording } from "./feed.js";
import { exported, numberOf, SessionEdit, SessionTrim } from "./session.js";

/** @typedef {import("./feed.js").Recording} Recording */

/**
 * @param {{item: Recording, name: string, growing: boolean, items: readonly Recording[], onShow: (item: Recording) => void,
 *   onClose: () => void, onChanged: (item: Recording) => void, onDeleted: (item: Recording) => void}} props  items: the neighbours, newest first
 */
export function Viewer({ item, name, growing, items, onShow, onClose, onChanged, onDeleted }) {
  const at = items.findIndex((one) => one.key === item.key);
  const [newer, older] = [items[at - 1], at < 0 ? undefined : items[at + 1]];
  const [tool, setTool] = useState(/** @type {"" | "edit" | "trim"} */ (""));
  const session = item.kind === "ondemand";
  const show = useShow(item);
  const what = t(`recordings.kind.${item.kind}`);
  const when = moment(item.start, { seconds: true });
  const label = `${what}, ${name}, ${when}`;

  useEffect(() => {
    const keys = (/** @type {KeyboardEvent} */ event) => {
      // The player's own keys seek, and those of a field move in its text.
      if (event.target instanceof HTMLMediaElement || event.target instanceof HTMLInputElement || event.altKey || event.ctrlKey || event.metaKey) return;
      const to = event.key === "ArrowLeft" ? newer : event.key === "ArrowRight" ? older : undefined;
      if (to) onShow(to);
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [newer, older]);

  const remove = async () => {
    const done = await ask({
      title: t("recordings.deleteTitle", { what }), text: t("recordings.deleteText", { name, when }), confirm: t("views.delete"),
      danger: true, run: () => deleteRecording(item),
    });
    if (done) onDeleted(item);
  };
  const step = (/** @type {Recording | undefined} */ to, /** @type {"left" | "right"} */ icon, /** @type {string} */ words) => html`
    <${IconButton} icon=${icon} label=${words} disabled=${!to} onClick=${() => { if (to) onShow(to); }} />`;

  const deletable = administers.value && !growing;
  const edits = session && administers.value && !item.deleted;
  const acts = newer || older || deletable || !session || edits;
  const toggle = (/** @type {"edit" | "trim"} */ one, /** @type {"edit" | "films"} */ icon) => html`<${Button} icon=${icon}
    aria-expanded=${tool === one ? "true" : "false"} onClick=${() => setTool(tool === one ? "" : one)}>${t(`session.${one}`)}<//>`;
  return html`<${Dialog} wide class="viewer" title=${item.title || name} onClose=${onClose} footer=${acts && html`
      ${(newer || older) && html`<span class="viewer-steps">
        ${step(newer, "left", t("recordings.newer"))}${step(older, "right", t("recordings.older"))}</span>`}
      ${deletable && html`<${Button} kind="plain" class="warns" icon="delete" onClick=${remove}>${t("views.delete")}<//>`}
      ${edits && [toggle("edit", "edit"), !growing && toggle("trim", "films")]}
      ${item.page && html`<${LinkButton} icon="external" external href=${item.page}>${t("session.page")}<//>`}
      ${session
        ? !item.deleted && item.seconds && html`<${ExportLink} kind="primary" href=${exported(item)}>${t("recordings.download")}<//>`
        : html`<${LinkButton} kind="primary" icon="download" href=${download(item.url)} download="">${t("recordings.download")}<//>`}`}>
    ${item.kind === "image"
      ? html`<img class="viewer-image" src=${item.url} alt=${label} />`
      : html`<${Player} key=${item.key} src=${item.url} hls=${session} poster=${item.poster} label=${label} autoplay />`}
    ${tool === "edit" && html`<${SessionEdit} key=${item.key} item=${item} onChanged=${onChanged} />`}
    ${tool === "trim" && html`<${SessionTrim} key=${item.key} item=${item} name=${name}
      position=${() => /** @type {HTMLVideoElement | null} */ (document.querySelector(".viewer video"))?.currentTime ?? 0} />`}
    <${Facts} facts=${[
      { label: t("recordings.what"), value: growing ? t("recordings.growingWhat", { what }) : what },
      { label: t("recordings.start"), value: when },
      ...(item.kind === "image" ? [] : [{ label: t("recordings.length"), value: duration(item.seconds) }]),
      ...(session ? [] : [{ label: t("recordings.size"), value: bytes(item.size) }]),
      ...(show ? [{ label: t("session.viewers"), value: html`${number(show.peak)} · <a
        href=${channelHref(item.channel, `/shows/${show.id}`)} onClick=${onClose}>${t("session.report")}</a>` }] : []),
      ...(item.until ? [{ label: t("recordings.until"), value: moment(item.until) }] : []),
    ]} />
    ${item.page && html`<${CopyField} label=${t("session.pageAddress")} value=${item.page} />
      <${CopyField} label=${t("session.embed")} value=${embedCode(item.page)} />`}
    <${CopyField} label=${t("recordings.address")} value=${item.url} />
  <//>`;
}

/**
 * Returns the show that a session has recorded; null while it is loaded, and where no report is kept.
 * @param {Recording} item
 */
function useShow(item) {
  const [show, setShow] = useState(/** @type {{id: string, peak: number} | null} */ (null));
  useEffect(() => {
    let gone = false;
    setShow(null);
    if (item.kind === "ondemand" && !item.deleted) {
      const id = numberOf(item); // the show has it, too
      api.get(`/videostream/${encodeURIComponent(item.channel)}/shows?limit=1&before=${Number(id) + 1}`).then(([found]) => {
        if (!gone && found?.id === id) setShow(found);
      }, () => undefined); // the recording is shown without it
    }
    return () => { gone = true; };
  }, [item.key]);
  return show;
}

/**
 * Returns the address for a download instead of a view.
 * @param {string} url
 */
function download(url) { return `${url}${url.includes("?") ? "&" : "?"}download`; }
