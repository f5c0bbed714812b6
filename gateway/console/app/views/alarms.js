/** The alarms: rules that send a message to people when something has a fault. */

import { useSignal } from "@preact/signals";

import { api } from "../../players/api.js";
import { ask } from "../dialog.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { toast } from "../toast.js";
import { Button, Card, Chip, Empty, html, IconButton, Notice, PageHead, Skeleton } from "../ui.js";
import { KINDS, NEW, RuleDialog } from "./alarms/rule.js";
import { serviceOf } from "./alarms/target.js";
import { reason, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/alarms.js";

/** @typedef {import("./alarms/rule.js").Rule} Rule */

const ALARMS = "/alarms";

export default function Alarms() {
  /** @type {import("../poll.js").PolledSignal<Rule[]>} */
  const polled = usePoll(ALARMS, 30_000);
  const edited = useSignal(/** @type {{rule: Rule, fresh: boolean} | null} */ (null));
  const { data, error } = polled.value;
  const add = html`<${Button} kind="primary" icon="plus"
    onClick=${() => { edited.value = { rule: NEW, fresh: true }; }}>${t("alarms.add")}<//>`;
  /** Replaces one rule of the stored ones, which another user may have changed. @param {string | null} name @param {Rule | null} to */
  const replace = async (name, to) => {
    const rules = /** @type {Rule[]} */ (await api.get(ALARMS));
    const at = rules.findIndex((rule) => rule.name === name);
    rules.splice(at < 0 ? rules.length : at, at < 0 ? 0 : 1, ...(to ? [to] : []));
    await api.put(ALARMS, rules);
    refresh(ALARMS);
  };
  return html`
    <${PageHead} title=${t("alarms.title")} text=${t("alarms.text")}>${add}<//>
    <${Trouble} error=${error} />
    ${data === null ? !error && html`<${Skeleton} lines=${5} />`
      : !data.length ? html`<${Card}><${Empty} icon="bell" title=${t("alarms.empty")} text=${t("alarms.emptyText")} /><//>`
      : html`<div class="stack">${data.map((rule) => html`<${RuleCard} key=${rule.name} rule=${rule}
          onEdit=${() => { edited.value = { rule, fresh: false }; }} remove=${() => replace(rule.name, null)} />`)}</div>`}
    ${edited.value && html`<${RuleDialog} rule=${edited.value.rule} fresh=${edited.value.fresh}
      save=${(/** @type {Rule} */ rule) => replace(edited.value?.fresh ? null : edited.value?.rule.name ?? null, rule)}
      onClose=${() => { edited.value = null; }} />`}`;
}

/** @param {{rule: Rule, onEdit: () => void, remove: () => Promise<void>}} props */
function RuleCard({ rule, onEdit, remove }) {
  const busy = useSignal(false);
  const answer = useSignal(/** @type {{kind: "ok" | "bad", text: string} | null} */ (null));
  const test = async () => {
    busy.value = true;
    answer.value = null;
    try {
      /** @type {{answer: string}} */
      const sent = await api.post(`${ALARMS}/${encodeURIComponent(rule.name)}/test`, {});
      answer.value = { kind: "ok", text: sent.answer };
    } catch (error) {
      answer.value = { kind: "bad", text: reason(error) };
    } finally {
      busy.value = false;
    }
  };
  const erase = async () => {
    const done = await ask({ title: t("alarms.deleteTitle", { name: rule.name }), text: t("alarms.deleteText"), confirm: t("views.delete"),
      danger: true, run: remove });
    if (done) toast(t("alarms.deleted", { name: rule.name }), "ok");
  };
  const { quiet } = rule;
  return html`<${Card} title=${rule.name} actions=${html`
      <${Button} small busy=${busy.value} onClick=${test}>${t("alarms.test")}<//>
      <${IconButton} icon="edit" label=${t("alarms.editOf", { name: rule.name })} onClick=${onEdit} />
      <${IconButton} icon="delete" label=${t("alarms.deleteOf", { name: rule.name })} onClick=${erase} />`}>
    <div class="stack">
      <p class="alarm-to"><b>${t(`alarms.service.${serviceOf(rule.to)}`)}</b> <code>${rule.to}</code></p>
      <span class="chips">${KINDS.filter((kind) => rule.on.includes(kind)).map((kind) => html`<${Chip}
        key=${kind}>${t(`alarms.on.${kind}`)}<//>`)}</span>
      <p class="soft">${[...(rule.on.includes("traffic") ? [t("alarms.gigabytesWords", { n: rule.gigabytes })] : []),
        rule.after ? t("alarms.afterWords", { n: rule.after }) : t("alarms.atOnce"),
        rule.channels.length ? t("alarms.channelCount", { n: rule.channels.length }) : t("alarms.all"),
        ...(quiet ? [t("alarms.quietWords", { ...quiet })] : [])].join(" · ")}</p>
      ${answer.value && html`<${Notice} kind=${answer.value.kind} role="status"
        title=${t(answer.value.kind === "ok" ? "alarms.testSent" : "alarms.testFailed")}>${answer.value.text}<//>`}
    </div>
  <//>`;
}
