/** Asks in a dialog for what an output needs before it can be switched on: renditions, or a text. */

import { useEffect, useState } from "preact/hooks";

import { api, isAbort } from "../../../players/api.js";
import { largerRungs, pictureSize, RUNGS } from "../../channel.js";
import { Dialog } from "../../dialog.js";
import { loadLadders, RECOMMENDED, renditionOf } from "../../editor/ladders.js";
import { bottomRight } from "../../editor/watermark.js";
import { t } from "../../i18n.js";
import { channelHref } from "../../router.js";
import { toast } from "../../toast.js";
import { Button, Field, html, Switch } from "../../ui.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../channel.js").Session} Session */
/** @typedef {"transcoding" | "watermark"} Section  of the editor, with the other settings of the output */

const FONT_SIZE = 24; // the default, px

/** @param {Channel} channel */
const pathOf = ({ id }) => `/videostream/${encodeURIComponent(id)}`;

/** What is typed or chosen. @typedef {{text: string, rungs: readonly string[]}} Draft */

/**
 * field: the text that is asked for; null: renditions. body: the changes of the channel.
 * @type {Record<Section, {output: string, field: string | null, most: number, body: (draft: Draft, channel: Channel, session: Session | null) => Promise<Record<string, unknown>>}>}
 */
const ASKED = {
  transcoding: { output: "codec", field: null, most: 0,
    body: async ({ rungs }, channel) => ({ ...Object.fromEntries(RUNGS.map((rung) => [rung, rungs.includes(rung)])), isCodec: true,
      ...(channel["ladder"] ? {} : { ladder: RECOMMENDED }) }) },
  watermark: { output: "watermark", field: "WaterMarkText", most: 1024,
    body: async ({ text }, channel, session) =>
      ({ WaterMarkText: text.trim(), isWaterMark: true, ...await placeOf(text.trim(), channel, session) }) },
};

/**
 * Returns the place of a new watermark in a live picture. Without one, the gateway's default remains.
 * @param {string} text
 * @param {Channel} channel
 * @param {Session | null} session  as the page knows it: perhaps from before the picture came, or not yet
 */
async function placeOf(text, channel, session) {
  const pen = document.createElement("canvas").getContext("2d");
  if (!pen || channel["WaterMarkLeft"] !== undefined || channel["WaterMarkTop"] !== undefined) return {};
  const size = pictureSize(pictureSize(session).width ? session : await api.get(`${pathOf(channel)}/session`));
  if (!size.width) return {};
  const height = Number(channel["WaterMarkFontSize"]) || FONT_SIZE;
  pen.font = `${height}px "DejaVu Sans", Verdana, sans-serif`; // as wide as the gateway's
  const { left, top } = bottomRight(size, { width: pen.measureText(text).width, height });
  return { WaterMarkLeft: left, WaterMarkTop: top };
}

/** @param {{section: Section, channel: Channel, session: Session | null, onClose: () => void, onChanged: () => void}} props */
export function FirstSettings({ section, channel, session, onClose, onChanged }) {
  const larger = largerRungs(session);
  const ladder = channel["ladder"] || RECOMMENDED;
  useEffect(() => void loadLadders().catch(() => undefined), []); // without them, the switches tell less
  const { output, field, most, body } = ASKED[section];
  const [draft, setDraft] = useState(/** @type {Draft} */ ({ text: "", rungs: ["ld", "hd"] }));
  const chosen = draft.rungs.filter((rung) => !larger.includes(rung)); // the session may come after the choice
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const change = (/** @type {Partial<Draft>} */ changes) => { setDraft({ ...draft, ...changes }); setError(""); };
  const save = async () => {
    if (busy) return;
    const rungs = chosen.filter((rung) => renditionOf(ladder, rung));
    if (field ? !draft.text.trim() : rungs.length === 0) return setError(t(`ask.${section}.missing`));
    setBusy(true);
    try {
      await api.put(pathOf(channel), await body({ ...draft, rungs }, channel, session));
      toast(t("switch.on", { what: t(`output.${output}`) }), "ok");
      onChanged();
      onClose();
    } catch (failure) {
      setBusy(false);
      if (!isAbort(failure)) setError(failure instanceof Error ? failure.message : String(failure));
    }
  };
  return html`<${Dialog} title=${t(`ask.${section}`)} onClose=${onClose} onSubmit=${save} footer=${html`
      <${Button} onClick=${onClose}>${t("cancel")}<//><${Button} kind="primary" type="submit" busy=${busy}>${t("ask.on")}<//>`}>
    ${field ? html`<${Field} label=${t(`ask.${section}.text`)} name=${field} value=${draft.text} maxlength=${most} error=${error}
        autofocus required autocomplete="off" onInput=${(/** @type {string} */ text) => change({ text })} />`
      : html`<p>${t(`ask.${section}.text`)}</p><div class="stack" role="group" aria-label=${t(`ask.${section}`)}>
        ${RUNGS.map((rung) => ({ rung, ...renditionOf(ladder, rung) })).map(({ rung, label, hint }) => label && html`
          <${Switch} key=${rung} label=${label} hint=${larger.includes(rung) ? t("ask.transcoding.larger") : hint}
          disabled=${larger.includes(rung)} checked=${chosen.includes(rung)} onChange=${(/** @type {boolean} */ on) =>
            change({ rungs: on ? [...draft.rungs, rung] : draft.rungs.filter((one) => one !== rung) })} />`)}
        ${error && html`<p class="error" role="alert">${error}</p>`}</div>`}
    <p class="hint"><a href=${channelHref(channel.id, `/edit?section=${section}`)} onClick=${onClose}>${t(`ask.${section}.more`)}</a></p>
  <//>`;
}
