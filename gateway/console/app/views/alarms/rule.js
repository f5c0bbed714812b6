/** The form of one rule. */

import { useSignal } from "@preact/signals";

import { ApiError } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { zone } from "../../format.js";
import { t } from "../../i18n.js";
import { Button, classes, Field, html, Switch } from "../../ui.js";
import { choices, useChannels } from "../parts/channels.js";
import { reason } from "../parts/trouble.js";
import { built, TargetFields } from "./target.js";

/** @typedef {{from: string, to: string, zone: string}} Quiet */
/**
 * @typedef {{name: string, on: string[], after: number, channels: string[], to: string, stops: boolean, gigabytes: number, quiet: Quiet | null}} Rule
 */

export const KINDS = ["off_air", "on_slate", "output_failing", "health", "key_expires", "disk", "node_gone", "traffic"];
/** @type {Rule} */
export const NEW = { name: "", on: ["off_air", "output_failing"], after: 10, channels: [], to: "", stops: true, gigabytes: 0, quiet: null };

/**
 * @param {string} label @param {readonly {value: string, label: string}[]} options @param {readonly string[]} chosen
 * @param {(to: string[]) => void} onChange @param {string} [error]
 */
const checks = (label, options, chosen, onChange, error) => html`<fieldset class=${classes("radios", options.length > KINDS.length && "alarm-channels")}><legend>${label}</legend>
  ${options.map(({ value, label: text }) => html`<label key=${value}>
    <input type="checkbox" checked=${chosen.includes(value)} onChange=${(/** @type {Event} */ event) =>
      onChange(/** @type {HTMLInputElement} */ (event.target).checked ? [...chosen, value] : chosen.filter((one) => one !== value))} />
    <span>${text}</span></label>`)}
  ${error && html`<p class="error" role="alert">${error}</p>`}
</fieldset>`;

/** @param {{rule: Rule, fresh: boolean, save: (rule: Rule) => Promise<void>, onClose: () => void}} props */
export function RuleDialog({ rule: first, fresh, save, onClose }) {
  const rule = useSignal(first);
  const after = useSignal(String(first.after));
  const gigabytes = useSignal(String(first.gigabytes || ""));
  const some = useSignal(first.channels.length > 0);
  const retarget = useSignal(fresh);
  const service = useSignal("mail");
  const values = useSignal(/** @type {Record<string, string>} */ ({}));
  const wrong = useSignal(/** @type {Record<string, string>} */ ({}));
  const missing = useSignal(/** @type {string[]} */ ([]));
  const busy = useSignal(false);
  const channels = choices(useChannels().value.data ?? []);
  const set = (/** @type {Partial<Rule>} */ change) => { rule.value = { ...rule.value, ...change }; wrong.value = {}; };
  const submit = async () => {
    const target = retarget.value ? built(service.value, values.value) : { address: rule.value.to, wrong: [] };
    const { name, on } = rule.value;
    const seconds = Number(after.value);
    const most = on.includes("traffic") ? Number(gigabytes.value) : 0;
    missing.value = target.wrong;
    wrong.value = {
      ...((!name.trim() || /[/\\\p{C}]/u.test(name)) && { name: t("alarms.nameWrong") }),
      ...(!on.length && { on: t("alarms.onMissing") }),
      ...(!(after.value.trim() && seconds >= 0 && seconds <= 86_400) && { after: t("alarms.afterWrong") }),
      ...(on.includes("traffic") && !(most > 0 && most <= 1e9) && { gigabytes: t("alarms.gigabytesWrong") }),
    };
    if (target.wrong.length || Object.keys(wrong.value).length) return;
    busy.value = true;
    try {
      await save({ ...rule.value, name: name.trim(), after: seconds, gigabytes: most, to: target.address,
        channels: some.value ? rule.value.channels : [] });
      onClose();
    } catch (error) {
      wrong.value = { [error instanceof ApiError && error.field && error.field !== "on" ? error.field : "all"]: reason(error) };
    } finally {
      busy.value = false;
    }
  };
  const { quiet } = rule.value;
  return html`<${Dialog} title=${fresh ? t("alarms.add") : t("alarms.editTitle", { name: first.name })} onClose=${onClose} onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value}>${t("alarms.save")}<//>`}>
    <${Field} label=${t("alarms.name")} value=${rule.value.name} error=${wrong.value["name"]} required maxlength="64" autocomplete="off"
      placeholder=${t("alarms.name.example")} onInput=${(/** @type {string} */ name) => set({ name })} />
    ${retarget.value ? html`<${TargetFields} service=${service.value} values=${values.value} wrong=${missing.value}
        onService=${(/** @type {string} */ to) => { service.value = to; missing.value = []; wrong.value = {}; }}
        onValues=${(/** @type {Record<string, string>} */ to) => { values.value = to; missing.value = []; wrong.value = {}; }} />`
      : html`<p class="alarm-to"><code>${rule.value.to}</code></p>
        <div class="row"><${Button} small onClick=${() => { retarget.value = true; }}>${t("alarms.retarget")}<//></div>`}
    ${wrong.value["to"] && html`<p class="error" role="alert">${wrong.value["to"]}</p>`}
    ${checks(t("alarms.on"), KINDS.map((value) => ({ value, label: t(`alarms.on.${value}`) })), rule.value.on, (on) => set({ on }),
      wrong.value["on"])}
    ${rule.value.on.includes("off_air") && html`<${Switch} label=${t("alarms.stops")} hint=${t("alarms.stopsHint")}
      checked=${rule.value.stops} onChange=${(/** @type {boolean} */ stops) => set({ stops })} />`}
    ${rule.value.on.includes("traffic") && html`<${Field} label=${t("alarms.gigabytes")} value=${gigabytes.value} type="number" min="0" step="any"
      required error=${wrong.value["gigabytes"]} hint=${t("alarms.gigabytesHint")}
      onInput=${(/** @type {string} */ to) => { gigabytes.value = to; wrong.value = {}; }} />`}
    <${Field} label=${t("alarms.after")} value=${after.value} type="number" min="0" max="86400" error=${wrong.value["after"]}
      hint=${t("alarms.afterHint")} onInput=${(/** @type {string} */ to) => { after.value = to; wrong.value = {}; }} />
    <${Switch} label=${t("alarms.some")} checked=${some.value} onChange=${(/** @type {boolean} */ to) => { some.value = to; }} />
    ${some.value && checks(t("alarms.channels"), channels, rule.value.channels, (to) => set({ channels: to }))}
    <${Switch} label=${t("alarms.quiet")} hint=${t("alarms.quietHint")} checked=${quiet !== null}
      onChange=${(/** @type {boolean} */ to) => set({ quiet: to ? { from: "23:00", to: "07:00", zone: zone() } : null })} />
    ${quiet && html`<div class="row alarm-quiet">
      <${Field} label=${t("alarms.quietFrom")} type="time" required value=${quiet.from}
        onInput=${(/** @type {string} */ from) => set({ quiet: { ...quiet, from } })} />
      <${Field} label=${t("alarms.quietTo")} type="time" required value=${quiet.to}
        onInput=${(/** @type {string} */ to) => set({ quiet: { ...quiet, to } })} />
      <${Field} label=${t("alarms.zone")} value=${quiet.zone} spellcheck=${false}
        onInput=${(/** @type {string} */ to) => set({ quiet: { ...quiet, zone: to } })} /></div>`}
    ${wrong.value["quiet"] && html`<p class="error" role="alert">${wrong.value["quiet"]}</p>`}
    ${wrong.value["all"] && html`<p class="error" role="alert">${wrong.value["all"]}</p>`}
  <//>`;
}
