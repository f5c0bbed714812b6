/** The tokens for scripts: made, listed with their last use, and revoked. */

import { useState } from "preact/hooks";

import { api, isAbort } from "../../../players/api.js";
import { fromLocal } from "../../channel.js";
import { ask, Dialog } from "../../dialog.js";
import { moment } from "../../format.js";
import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";
import { Badge, Button, Card, CopyField, Field, html, IconButton, Notice, Table } from "../../ui.js";
import { reason, Trouble } from "../parts/trouble.js";
import { RightsFields } from "./rights.js";

/** @typedef {import("./rights.js").Rights} Rights */
/** @typedef {{id: string, name: string, created: string, expires: string | null, used: string | null} & Rights} Token */

const TOKENS = "/tokens";

export function Tokens() {
  /** @type {import("../../poll.js").PolledSignal<Token[]>} */
  const polled = usePoll(TOKENS, 15_000);
  const [making, setMaking] = useState(false);
  const { data, error } = polled.value;
  /** @type {import("../../kit/table.js").Column<Token>[]} */
  const columns = [
    { key: "name", label: t("tokens.name"), sort: (one) => one.name, cell: (one) => html`<b>${one.name}</b>` },
    { key: "role", label: t("users.role"), sort: (one) => one.role, cell: (one) => html`<${Badge}>${t(`users.role.${one.role}`)}<//>` },
    { key: "expires", label: t("tokens.expires"), sort: (one) => one.expires ?? "~", cell: (one) => (one.expires ? moment(one.expires) : t("tokens.never")) },
    { key: "used", label: t("tokens.used"), sort: (one) => one.used ?? "", cell: (one) => (one.used ? moment(one.used) : t("tokens.never")) },
    { key: "acts", label: t("views.actions"), actions: true,
      cell: (one) => html`<${IconButton} icon="delete" label=${t("tokens.revokeOf", { name: one.name })} onClick=${() => revoke(one)} />` },
  ];
  return html`<${Card} title=${t("tokens.title")} actions=${html`
      <${Button} small icon="plus" onClick=${() => setMaking(true)}>${t("tokens.add")}<//>`}>
    <p class="soft">${t("tokens.text")}</p>
    <${Trouble} error=${error} />
    <${Table} label=${t("tokens.title")} name="tokens" sort="name" columns=${columns} rows=${data ?? (error ? [] : null)}
      keyOf=${(/** @type {Token} */ one) => one.id} empty=${html`<p class="soft">${t("tokens.empty")}</p>`} />
    ${making && html`<${NewToken} onClose=${() => { setMaking(false); refresh(TOKENS); }} />`}
  <//>`;
}

/** @param {Token} token */
async function revoke({ id, name }) {
  await ask({ title: t("tokens.revokeOf", { name }), text: t("tokens.revokeText"), confirm: t("tokens.revoke"), danger: true,
    run: () => api.delete(`${TOKENS}/${id}`) });
  refresh(TOKENS);
}

/** @param {{onClose: () => void}} props */
function NewToken({ onClose }) {
  const [name, setName] = useState("");
  const [until, setUntil] = useState("");
  const [rights, setRights] = useState(/** @type {Rights} */ ({ role: "broadcaster", channels: [] }));
  const [token, setToken] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const make = async () => {
    if (token) return onClose();
    if (busy) return;
    setBusy(true);
    try {
      setToken((await api.post(TOKENS, { name: name.trim(), ...rights, expires: until && fromLocal(until) })).token);
    } catch (problem) {
      if (!isAbort(problem)) setError(reason(problem));
    }
    setBusy(false);
  };
  return html`<${Dialog} title=${t("tokens.add")} onClose=${onClose} onSubmit=${make} footer=${html`
      ${!token && html`<${Button} onClick=${onClose}>${t("cancel")}<//>`}
      <${Button} kind="primary" type="submit" busy=${busy}>${t(token ? "tokens.done" : "tokens.make")}<//>`}>
    ${token ? html`<${Notice} kind="warn">${t("tokens.once")}<//><${CopyField} label=${t("tokens.token")} value=${token} />` : html`
      <${Field} label=${t("tokens.name")} name="name" value=${name} onInput=${setName} maxlength="64" required />
      <${Field} label=${t("tokens.until")} name="expires" type="datetime-local" value=${until} onInput=${setUntil} />
      <${RightsFields} rights=${rights} onChange=${setRights} />
      ${error && html`<p class="error" role="alert">${error}</p>`}`}
  <//>`;
}
