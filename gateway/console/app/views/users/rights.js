/** The role of a user, and the choice of the channels of a broadcaster or observer. */

import { useSignal } from "@preact/signals";

import { api } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { t } from "../../i18n.js";
import { refresh } from "../../poll.js";
import { toast } from "../../toast.js";
import { Button, html, Radios } from "../../ui.js";
import { choices, useChannels } from "../parts/channels.js";
import { reason } from "../parts/trouble.js";

/** @typedef {"administrator" | "broadcaster" | "observer"} Role */
/** @typedef {{role: Role, channels: readonly string[]}} Rights */

const ROLES = /** @type {const} */ (["administrator", "broadcaster", "observer"]);

/** @param {{rights: Rights, onChange: (rights: Rights) => void}} props */
export function RightsFields({ rights: { role, channels }, onChange }) {
  const polled = useChannels();
  const known = choices(polled.value.data ?? []);
  const mark = (/** @type {string} */ id, /** @type {boolean} */ on) =>
    onChange({ role, channels: on ? [...channels, id] : channels.filter((one) => one !== id) });
  return html`
    <${Radios} label=${t("users.role")} value=${role}
      options=${ROLES.map((value) => ({ value, label: html`<b>${t(`users.role.${value}`)}</b> ${t(`users.role.${value}.hint`)}` }))}
      onChange=${(/** @type {Role} */ to) => onChange({ role: to, channels: to === "administrator" ? [] : channels })} />
    ${role !== "administrator" && html`<fieldset class="radios user-channels"><legend>${t("users.channels")}</legend>
      ${known.map(({ value, label }) => html`<label key=${value}>
        <input type="checkbox" checked=${channels.includes(value)}
          onChange=${(/** @type {Event} */ event) => mark(value, /** @type {HTMLInputElement} */ (event.target).checked)} />
        <span>${label}</span></label>`)}
      ${known.length > 0 && !channels.length && html`<p class="hint">${t(`users.channels.empty.${role}`)}</p>`}
      ${polled.value.data && !known.length && html`<p class="hint">${t("users.channels.none")}</p>`}
    </fieldset>`}`;
}

/** @param {{user: {name: string} & Rights, path: string, onClose: () => void}} props */
export function RightsDialog({ user, path, onClose }) {
  const rights = useSignal(/** @type {Rights} */ ({ role: user.role, channels: user.channels }));
  const wrong = useSignal("");
  const busy = useSignal(false);
  const submit = async () => {
    busy.value = true;
    try {
      await api.put(`${path}/${encodeURIComponent(user.name)}`, rights.value);
      toast(t("users.roleChanged", { name: user.name }), "ok");
      refresh(path);
      onClose();
    } catch (error) {
      wrong.value = reason(error);
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${t("users.roleTitle", { name: user.name })} onClose=${onClose} onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value}>${t("users.roleSave")}<//>`}>
    <${RightsFields} rights=${rights.value} onChange=${(/** @type {Rights} */ to) => { rights.value = to; wrong.value = ""; }} />
    <p class="hint">${t("users.roleEnds")}</p>
    ${wrong.value && html`<p class="error" role="alert">${wrong.value}</p>`}
  <//>`;
}
