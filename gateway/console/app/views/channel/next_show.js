/** The next show of a channel, and the targets that are told when a show begins. */

import { useState } from "preact/hooks";

import { api, ApiError, isAbort } from "../../../players/api.js";
import { fromLocal, toLocal } from "../../channel.js";
import { Dialog } from "../../dialog.js";
import { instant, moment } from "../../format.js";
import { addTables, t } from "../../i18n.js";
import { administers } from "../../session.js";
import { toast } from "../../toast.js";
import { Button, Card, Field, html, IconButton } from "../../ui.js";
import { built, TargetFields } from "../alarms/target.js";
import { reason } from "../parts/trouble.js";
import alarms from "../../words/alarms.js";

addTables(alarms); // with the names of the services

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {{title: string, at: string | number, text?: string}} Upcoming */

/** @param {Channel} channel @returns {Upcoming | null} */
const stored = (channel) => (channel["upcoming"] && "title" in channel["upcoming"] ? channel["upcoming"] : null);

/** @param {string | number} at  a time of the API: ISO 8601, or seconds or milliseconds since 1970 @returns {Date | null} */
const timeOf = (at) => instant(Number(at) ? Number(at) * (Number(at) < 1e11 ? 1000 : 1) : at);

/** @param {{channel: Channel, onChanged: () => void}} props */
export function NextShow({ channel, onChanged }) {
  const [editing, setEditing] = useState("");
  const upcoming = stored(channel);
  const at = upcoming && timeOf(upcoming.at);
  /** @type {string[]} */
  const targets = channel["announce"] ?? [];
  const change = async (/** @type {Record<string, unknown>} */ fields) => {
    await api.put(`/videostream/${encodeURIComponent(channel.id)}${"upcoming" in fields ? "/about" : ""}`, fields);
    toast(t("next.saved"), "ok");
    onChanged();
  };
  const remove = (/** @type {number} */ at) => change({ announce: targets.filter((_, i) => i !== at) })
    .catch((error) => { if (!isAbort(error)) toast(reason(error), "bad"); });
  return html`<${Card} title=${t("next.title")} class="is-next" actions=${html`
      <${Button} small icon="edit" onClick=${() => setEditing("show")}>${t(upcoming ? "next.change" : "next.plan")}<//>`}>
    <div class="stack">
      ${upcoming ? html`<div><b>${upcoming.title}</b><span class="sub">${moment(at)}${at && Number(at) < Date.now()
        ? ` · ${t("next.past")}` : ""}</span></div>` : html`<p class="hint">${t("next.none")}</p>`}
      ${administers.value && html`<div><p class="group-head">${t("next.targets")}</p>
        ${targets.map((target, i) => html`<div class="with-copy" key=${`${i} ${target}`}><code>${target}</code>
          <${IconButton} icon="delete" label=${t("next.remove", { target })} onClick=${() => remove(i)} /></div>`)}
        ${!targets.length && html`<p class="hint">${t("next.targets.hint")}</p>`}
        <${Button} small icon="plus" onClick=${() => setEditing("target")}>${t("next.add")}<//></div>`}
    </div>
    ${editing === "show" && html`<${Plan} upcoming=${upcoming} change=${change} onClose=${() => setEditing("")} />`}
    ${editing === "target" && html`<${Add} targets=${targets} change=${change} onClose=${() => setEditing("")} />`}
  <//>`;
}

/** @typedef {{change: (fields: Record<string, unknown>) => Promise<void>, onClose: () => void}} Editor */

/** Runs a change for a dialog. @param {Editor} editor */
function useSaving({ change, onClose }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const save = async (/** @type {Record<string, unknown>} */ fields) => {
    setBusy(true);
    try {
      await change(fields);
      onClose();
    } catch (problem) {
      if (!isAbort(problem)) setError(problem instanceof ApiError ? problem.message : reason(problem));
      setBusy(false);
    }
  };
  return { busy, error, setError, save };
}

/** @param {{upcoming: Upcoming | null} & Editor} props */
function Plan({ upcoming, ...editor }) {
  const [title, setTitle] = useState(upcoming?.title ?? "");
  const [at, setAt] = useState(() => { const date = upcoming && timeOf(upcoming.at); return toLocal(date); });
  const [text, setText] = useState(upcoming?.text ?? "");
  const { busy, error, setError, save } = useSaving(editor);
  const submit = () => {
    const begin = fromLocal(at);
    if (!title.trim() || begin === null) setError(t("next.missing"));
    else void save({ upcoming: { title: title.trim(), at: begin, text: text.trim() } });
  };
  return html`<${Dialog} title=${t("next.title")} onClose=${editor.onClose} onSubmit=${submit} footer=${html`
      ${upcoming && html`<${Button} class="warns" onClick=${() => void save({ upcoming: {} })}>${t("next.cancel")}<//>`}
      <${Button} kind="primary" type="submit" busy=${busy}>${t("next.save")}<//>`}>
    <${Field} label=${t("next.name")} value=${title} onInput=${setTitle} maxlength="256" required error=${error} />
    <${Field} label=${t("next.at")} type="datetime-local" value=${at} onInput=${setAt} required />
    <${Field} label=${t("next.text")} hint=${t("next.text.hint")} rows=${3} value=${text} onInput=${setText} maxlength="2000" />
  <//>`;
}

/** @param {{targets: string[]} & Editor} props */
function Add({ targets, ...editor }) {
  const [service, setService] = useState("mail");
  const [values, setValues] = useState(/** @type {Record<string, string>} */ ({}));
  const [wrong, setWrong] = useState(/** @type {readonly string[]} */ ([]));
  const { busy, error, save } = useSaving(editor);
  const submit = () => {
    const target = built(service, values);
    setWrong(target.wrong);
    if (!target.wrong.length) void save({ announce: [...targets, target.address] });
  };
  return html`<${Dialog} title=${t("next.add")} onClose=${editor.onClose} onSubmit=${submit} footer=${html`
      <${Button} onClick=${editor.onClose}>${t("cancel")}<//><${Button} kind="primary" type="submit" busy=${busy}>${t("next.save")}<//>`}>
    <${TargetFields} service=${service} values=${values} wrong=${wrong} onService=${setService} onValues=${setValues} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
  <//>`;
}
