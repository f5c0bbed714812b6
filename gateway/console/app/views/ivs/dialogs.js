/** Dialogs: create an IVS channel, whose key is shown once, and relay a channel of this gateway to one. */

import { useSignal } from "@preact/signals";

import { api } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { t } from "../../i18n.js";
import { toast } from "../../toast.js";
import { Button, CopyField, Field, html, LinkButton, Notice, Select, Spinner } from "../../ui.js";
import { CHANNELS, choices, refreshChannels, useChannels } from "../parts/channels.js";
import { reason } from "../parts/trouble.js";
import { playAddress, server } from "./model.js";

/** @typedef {import("./model.js").IvsChannel} IvsChannel */

const NAME = /^[A-Za-z0-9_-]{0,128}$/; // the names that IVS accepts
const TYPES = ["STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD"];
const LATENCIES = ["LOW", "NORMAL"];

/** @param {{onClose: () => void, onCreated: () => void}} props */
export function Create({ onClose, onCreated }) {
  const name = useSignal("");
  const type = useSignal("STANDARD");
  const latency = useSignal("LOW");
  const wrong = useSignal("");
  const failure = useSignal("");
  const busy = useSignal(false);
  const made = useSignal(/** @type {IvsChannel | null} */ (null));

  const submit = async () => {
    wrong.value = name.value && NAME.test(name.value) ? "" : t("ivs.nameWrong");
    if (wrong.value) return;
    busy.value = true;
    failure.value = "";
    try {
      made.value = await api.post("/ivs/channels", { name: name.value, latencyMode: latency.value, type: type.value });
      onCreated();
    } catch (error) {
      failure.value = reason(error);
    } finally {
      busy.value = false;
    }
  };
  if (made.value) return html`<${Made} channel=${made.value} onClose=${onClose} />`;
  return html`<${Dialog} title=${t("ivs.create")} onClose=${onClose} onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value}>${t("ivs.createIt")}<//>`}>
    <${Field} label=${t("ivs.name")} value=${name.value} error=${wrong.value} hint=${t("ivs.nameHint")} maxlength="128" required
      autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {string} */ v) => { name.value = v; wrong.value = ""; }} />
    <${Select} label=${t("ivs.latency")} value=${latency.value}
      options=${LATENCIES.map((value) => ({ value, label: t(`ivs.latency.${value}`) }))}
      onChange=${(/** @type {string} */ v) => { latency.value = v; }} />
    <${Select} label=${t("ivs.type")} value=${type.value} hint=${t("ivs.typeHint")}
      options=${TYPES.map((value) => ({ value, label: t(`ivs.type.${value}`) }))}
      onChange=${(/** @type {string} */ v) => { type.value = v; }} />
    ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
  <//>`;
}

/** @param {{channel: IvsChannel, onClose: () => void}} props */
function Made({ channel, onClose }) {
  return html`<${Dialog} title=${t("ivs.made", { name: channel.name })} onClose=${onClose}
      footer=${html`<${LinkButton} href=${`#${playAddress(channel.playbackUrl)}`} icon="play">${t("ivs.play")}<//>
        <${Button} kind="primary" onClick=${onClose}>${t("ivs.copied")}<//>`}>
    ${channel.streamKey && html`<${Notice} kind="warn">${t("ivs.once")}<//>`}
    <${CopyField} label=${t("ivs.server")} value=${server(channel)} />
    ${channel.streamKey && html`<${CopyField} label=${t("ivs.key")} value=${channel.streamKey} />`}
    <${CopyField} label=${t("ivs.url")} value=${channel.playbackUrl} />
    <${CopyField} label=${t("ivs.page")} value=${channel.playerUrl} hint=${t("ivs.pageHint")} />
    <${CopyField} label=${t("ivs.arn")} value=${channel.arn} hint=${t("ivs.arnHint")} />
  <//>`;
}

/** @param {{target: IvsChannel, onClose: () => void}} props */
export function Relay({ target, onClose }) {
  const polled = useChannels();
  const chosen = useSignal("");
  const failure = useSignal("");
  const busy = useSignal(false);
  const channels = polled.value.data;
  const channel = channels?.find((one) => one.id === chosen.value) ?? channels?.[0];
  const targets = channel ? targetsOf(channel.relayURL) : [];
  const there = targets.includes(target.arn);
  const on = String(channel?.isRelay) === "true";

  const submit = async () => {
    if (!channel) return;
    busy.value = true;
    failure.value = "";
    try {
      await api.put(`${CHANNELS}/${encodeURIComponent(channel.id)}`,
        { isRelay: true, relayURL: there ? targets : [...targets, target.arn] });
      toast(t("ivs.relayed"), "ok");
      refreshChannels();
      onClose();
    } catch (error) {
      failure.value = reason(error);
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${t("ivs.relayTitle", { name: target.name })} onClose=${onClose} onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value} disabled=${!channel || (there && on)}>${t("ivs.relayIt")}<//>`}>
    ${channels === null ? polled.value.error ? html`<p class="error" role="alert">${reason(polled.value.error)}</p>` : html`<${Spinner} />`
      : !channel ? html`<p>${t("ivs.noChannels")}</p>`
      : html`<p>${t("ivs.relayText")}</p>
        <${Select} label=${t("ivs.relayChannel")} value=${channel.id} options=${choices(channels)}
          onChange=${(/** @type {string} */ v) => { chosen.value = v; }} />
        ${there && on && html`<${Notice} kind="ok">${t("ivs.relayThere")}<//>`}
        ${targets.length > 0 && !there && html`<p class="soft">${t("ivs.relayBesides", { n: targets.length })}</p>`}`}
    ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
  <//>`;
}

/**
 * Returns the relay addresses to send. A masked address that is sent back does not change the stored one.
 * @param {string | readonly string[] | null | undefined} stored  of the channel
 * @returns {string[]}
 */
function targetsOf(stored) {
  const all = typeof stored === "string" ? stored.split(",") : stored ?? [];
  return all.map((one) => one.trim()).filter(Boolean);
}
