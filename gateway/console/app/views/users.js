/** The users of the console, and the signed-in user. */

import { useSignal } from "@preact/signals";

import { api, ApiError } from "../../players/api.js";
import { ask, Dialog } from "../dialog.js";
import { moment } from "../format.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { offer, user } from "../session.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, Empty, Field, html, IconButton, Notice, PageHead, Table } from "../ui.js";
import { reason, Trouble } from "./parts/trouble.js";
import { Tokens } from "./users/tokens.js";
import { Provider } from "./users/provider.js";
import { RightsDialog, RightsFields } from "./users/rights.js";

export { default as words } from "../words/users.js";

/** @typedef {import("./users/rights.js").Rights} Rights */
/** @typedef {{name: string, created?: string | null, changed?: string | null, secondFactor?: boolean} & Rights} User */

const USERS = "/users";
const [LEAST, MOST] = [8, 256]; // characters of a password

/** The task of a dialog: a new user, or a new password for a user. @typedef {{name: string, fresh: boolean}} Task */

export default function Users() {
  /** @type {import("../poll.js").PolledSignal<User[]>} */
  const polled = usePoll(USERS, 15_000);
  const task = useSignal(/** @type {Task | null} */ (null));
  const { data, error } = polled.value;
  const me = user.value;
  const promoting = useSignal(/** @type {User | null} */ (null));
  const own = (/** @type {{name: string}} */ one) => me?.kind === "user" && me.name === one.name;

  /** @type {import("../kit/table.js").Column<User>[]} */
  const columns = [
    { key: "name", label: t("users.name"), sort: (one) => one.name, cell: (one) => html`<span class="row">
      <b>${one.name}</b>${own(one) && html`<${Badge} kind="info">${t("users.you")}<//>`}
      ${one.secondFactor && html`<${Badge} kind="ok">${t("users.factor")}<//>`}</span>` },
    { key: "role", label: t("users.role"), sort: (one) => one.role, cell: (one) => html`<${Badge}>${t(`users.role.${one.role}`)}<//>
      ${one.role !== "administrator" && html`<span class="sub">${one.role === "observer" && !one.channels.length
        ? t("users.allChannels") : t("users.channelCount", { n: one.channels.length })}</span>`}` },
    { key: "created", label: t("users.created"), sort: (one) => one.created, cell: (one) => moment(one.created) },
    { key: "changed", label: t("users.changed"), sort: (one) => one.changed, cell: (one) => moment(one.changed) },
    {
      key: "acts", label: t("views.actions"), actions: true,
      cell: (one) => html`
        <${IconButton} icon="shield" label=${t("users.roleOf", { name: one.name })} onClick=${() => { promoting.value = one; }} />
        <${IconButton} icon="key" label=${t("users.passwordOf", { name: one.name })}
          onClick=${() => { task.value = { name: one.name, fresh: false }; }} />
        ${one.secondFactor && html`<${IconButton} icon="refresh" label=${t("users.factorOf", { name: one.name })} onClick=${() => reset(one)} />`}
        <${IconButton} icon="delete" label=${t("users.deleteOf", { name: one.name })} onClick=${() => remove(one, own(one))} />`,
    },
  ];
  return html`
    <${PageHead} title=${t("users.title")} text=${t("users.text")}>
      <${Button} kind="primary" icon="plus" onClick=${() => { task.value = { name: "", fresh: true }; }}>${t("users.add")}<//>
    <//>
    <${Trouble} error=${error} />
    <div class="stack">
      ${me && html`<${Notice} kind="info">${t(`users.me.${me.kind}`,
        { name: me.name, provider: offer.value?.oidc?.name ?? "OpenID Connect" })}<//>`}
      <${Table} label=${t("users.title")} name="users" sort="name" columns=${columns} rows=${data ?? (error ? [] : null)}
        keyOf=${(/** @type {User} */ one) => one.name}
        empty=${html`<${Card}><${Empty} icon="users" title=${t("users.empty")} text=${t("users.emptyText")} /><//>`} />
      <${Tokens} /><${Provider} />
    </div>
    ${task.value && html`<${Form} task=${task.value} own=${own({ name: task.value.name })} taken=${(data ?? []).map((one) => one.name)}
      onClose=${() => { task.value = null; }} />`}
    ${promoting.value && html`<${RightsDialog} user=${promoting.value} path=${USERS}
      onClose=${() => { promoting.value = null; }} />`}`;
}

/** @param {User} one */
async function reset({ name }) {
  const done = await ask({ title: t("users.factorOf", { name }), text: t("users.factorText"), confirm: t("users.factorRemove"), danger: true,
    run: () => api.delete(`${USERS}/${encodeURIComponent(name)}/second-factor`) });
  if (done) toast(t("users.factorRemoved", { name }), "ok");
  refresh(USERS);
}

/** @param {User} one @param {boolean} own */
async function remove(one, own) {
  const done = await ask({
    title: t("users.deleteTitle", { name: one.name }), text: t(own ? "users.deleteOwn" : "users.deleteText"), confirm: t("views.delete"),
    danger: true,
    run: () => api.delete(`${USERS}/${encodeURIComponent(one.name)}`),
  });
  if (done) toast(t("users.deleted", { name: one.name }), "ok");
  refresh(USERS);
}

/** @param {{task: Task, own: boolean, taken: readonly string[], onClose: () => void}} props */
function Form({ task, own, taken, onClose }) {
  const name = useSignal(task.name);
  const password = useSignal("");
  const rights = useSignal(/** @type {Rights} */ ({ role: "broadcaster", channels: [] }));
  const shown = useSignal(false);
  const wrong = useSignal(/** @type {{name?: string, password?: string, all?: string}} */ ({}));
  const busy = useSignal(false);
  const submit = async () => {
    const [who, secret] = [name.value.trim().normalize("NFC"), password.value];
    const size = [...secret].length;
    wrong.value = {
      ...(task.fresh && (!who ? { name: t("users.nameMissing") } : /[/\\%?#\p{C}]/u.test(who) || who === "." || who === ".."
        ? { name: t("users.nameWrong") } : taken.includes(who) ? { name: t("users.nameTaken") } : {})),
      ...((size < LEAST || size > MOST || /\p{C}/u.test(secret)) && { password: t("users.passwordWrong", { least: LEAST, most: MOST }) }),
    };
    if (Object.keys(wrong.value).length) return;
    busy.value = true;
    try {
      if (task.fresh) await api.post(USERS, { name: who, password: secret, ...rights.value });
      else await api.put(`${USERS}/${encodeURIComponent(who)}`, { password: secret });
      toast(t(task.fresh ? "users.added" : "users.passwordChanged", { name: who }), "ok");
      refresh(USERS);
      onClose();
    } catch (error) {
      const field = error instanceof ApiError && (error.field === "name" || error.field === "password") ? error.field
        : error instanceof ApiError && error.status === 409 ? "name" : "all";
      wrong.value = { [field]: reason(error) };
      busy.value = false;
    }
  };
  return html`<${Dialog} title=${task.fresh ? t("users.add") : t("users.passwordTitle", { name: task.name })} onClose=${onClose}
    onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value}>${t(task.fresh ? "users.create" : "users.change")}<//>`}>
    ${task.fresh && html`<${Field} label=${t("users.name")} value=${name.value} error=${wrong.value.name} required autocomplete="off"
      autocapitalize="off" spellcheck=${false}
      maxlength="64" onInput=${(/** @type {string} */ v) => { name.value = v; wrong.value = {}; }} />`}
    <${Field} label=${t(task.fresh ? "users.password" : "users.newPassword")} type=${shown.value ? "text" : "password"}
      value=${password.value} error=${wrong.value.password}
      hint=${t(own ? "users.passwordOwn" : "users.passwordHint", { n: LEAST })} required autocomplete="new-password" maxlength=${MOST}
      onInput=${(/** @type {string} */ v) => { password.value = v; wrong.value = {}; }}
      after=${html`<${IconButton} icon=${shown.value ? "eye-off" : "eye"} label=${t(shown.value ? "users.hide" : "users.show")}
        aria-pressed=${shown.value ? "true" : "false"} onClick=${() => { shown.value = !shown.value; }} />`} />
    ${task.fresh && html`<${RightsFields} rights=${rights.value} onChange=${(/** @type {Rights} */ to) => { rights.value = to; }} />`}
    ${wrong.value.all && html`<p class="error" role="alert">${wrong.value.all}</p>`}
  <//>`;
}
