/** What viewers see of a channel: title, description and poster. A broadcaster may change these. */

import { useState } from "preact/hooks";

import { api, ApiError, isAbort } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { t } from "../../i18n.js";
import { PictureField } from "../../kit/picture.js";
import { administers } from "../../session.js";
import { toast } from "../../toast.js";
import { Button, Card, Field, html } from "../../ui.js";
import { reason } from "../parts/trouble.js";
import { FieldSwitch } from "./channel_switch.js";

/** @typedef {import("../../channel.js").Channel} Channel */

/** The address of the poster, below that of the channel's media. @param {Channel} channel */
function posterOf(channel) {
  const [base] = Object.values(channel.playUrls).filter((url) => url.startsWith("http"));
  if (!base || !channel["poster"]) return null;
  const url = new URL(base);
  url.pathname = `${url.pathname.split("/")[1]}/vod/${String(channel["poster"]).split("/").slice(1).join("/")}`;
  return url.href;
}

/** @param {{channel: Channel, onChanged: () => void}} props */
export function Face({ channel, onChanged }) {
  const [editing, setEditing] = useState(false);
  const path = `/videostream/${encodeURIComponent(channel.id)}`;
  return html`<${Card} title=${t("face.title")} class="is-face" actions=${html`
      <${Button} small icon="edit" onClick=${() => setEditing(true)}>${t("face.change")}<//>`}>
    <div class="stack">
      ${administers.value && html`<${FieldSwitch} channel=${channel} field="isPublic" label=${t("face.public")}
        hint=${t("face.public.hint")} onChanged=${onChanged} />`}
      <${PictureField} label=${t("face.poster")} hint=${t("face.poster.hint")} source=${posterOf(channel)} path=${`${path}/poster`}
        onChanged=${onChanged} />
    </div>
    ${editing && html`<${About} channel=${channel} path=${path} onClose=${() => setEditing(false)} onChanged=${onChanged} />`}
  <//>`;
}

/** @param {{channel: Channel, path: string, onClose: () => void, onChanged: () => void}} props */
function About({ channel, path, onClose, onChanged }) {
  const [name, setName] = useState(String(channel["videoname"] ?? ""));
  const [description, setDescription] = useState(String(channel["description"] ?? ""));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const save = async () => {
    setBusy(true);
    try {
      await api.put(`${path}/about`, { videoname: name.trim(), description: description.trim() });
      toast(t("face.saved"), "ok");
      onChanged();
      onClose();
    } catch (problem) {
      if (!isAbort(problem)) setError(problem instanceof ApiError ? problem.message : reason(problem));
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${t("face.change")} onClose=${onClose} onSubmit=${save} footer=${html`
      <${Button} onClick=${onClose}>${t("cancel")}<//><${Button} kind="primary" type="submit" busy=${busy}>${t("face.save")}<//>`}>
    <${Field} label=${t("channel.name")} name="videoname" value=${name} onInput=${setName} maxlength="256" error=${error} />
    <${Field} label=${t("channel.description")} name="description" rows=${4} value=${description} onInput=${setDescription} maxlength="4096" />
  <//>`;
}
