/** The controls of the editor: a field by its name, with its label, hint, limits and error. */

import { fieldLabel, outputOfFlag, slugOf, zoneName } from "../channel.js";
import { hasWords, t } from "../i18n.js";
import { useMissing } from "../missing_outputs.js";
import { Field, html, Select, Switch } from "../ui.js";
import { CaptionList } from "./captions.js";
import { ExpiryField } from "./expiry.js";
import { allFields } from "./fields.js";

/** @typedef {import("./fields.js").Draft} Draft */

/**
 * The data for every control.
 * @typedef {object} Form
 * @property {Draft} draft
 * @property {Record<string, string>} errors  by field
 * @property {(changes: Draft) => void} set
 * @property {Record<string, string | undefined>} [defaults]  the gateway's settings, by field
 * @property {() => void} reload  reads the stored channel again, after a part has changed it
 */

/** What single controls have beside the gateway's description. @type {Record<string, Record<string, any>>} */
const EXTRAS = {
  videoname: { required: true },
  description: { rows: 3 },
  audioTracks: { placeholder: "en=English, fr=Français" },
  captionLanguage: { placeholder: "en" },
  recordTracks: { placeholder: "default" },
  relayTracks: { placeholder: "default" },
  recordSchedule: { placeholder: "mon-fri 08:00-18:00 Europe/Berlin" },
  WaterMarkText: { rows: 2 },
  ImageURL: { type: "url", placeholder: "https://example.com/logo.png" },
};

/**
 * A field by its name. Its texts are `field.<name>` and `field.<name>.hint`; the flag of an output has the texts of the output.
 * What this gateway lacks for a field is its hint. Then it cannot be changed, unless it has a value.
 * @param {{form: Form, name: string, unit?: any, label?: string, hint?: string}} props  unit, label, hint: instead of the field's own
 */
export function Entry({ form, name, unit, label, hint }) {
  const field = allFields.value[name];
  if (!field) throw new Error(`there is no field ${name}`);
  const after = unit ?? (hasWords(`unit.${field.unit}`) ? t(`unit.${field.unit}`) : field.unit);
  const missing = useMissing();
  const { rows, ...extras } = EXTRAS[name] ?? {};
  const value = form.draft[name];
  const lack = [false, "", "0"].includes(value) ? missing(outputOfFlag(name) ?? name) : "";
  const shared = {
    name, label: label ?? fieldLabel(name), hint: lack || (field.used === false ? t("entry.unused") : hint ?? hintOf(name)),
    error: form.errors[name], disabled: lack !== "", ...extras,
  };
  const change = (/** @type {string | boolean | import("./fields.js").Caption[]} */ to) => form.set({ [name]: to });
  switch (field.type) {
    case "flag":
      return html`<${Switch} ...${shared} checked=${value} onChange=${change} />`;
    case "choice":
      return html`<${Select} ...${shared} value=${value} options=${optionsOf(field, value, missing, form.defaults?.[name])} onChange=${change} />`;
    case "number":
    case "days":
      return html`<${Field} ...${shared} type="number" inputmode=${field.type === "days" ? "numeric" : "decimal"}
        min=${field.minimum ?? undefined} max=${field.maximum ?? undefined} step=${field.whole ? 1 : "any"}
        value=${value} after=${after} onInput=${change} />`;
    case "moment":
      return html`<${ExpiryField} ...${shared} value=${value} onInput=${change} />`;
    case "captions":
      return html`<${CaptionList} ...${shared} maximum=${field.maximum ?? Infinity} value=${value} onChange=${change} />`;
    case "hosts":
      return html`<${Field} ...${shared} rows=${3} spellcheck=${false} autocomplete="off" value=${value} onInput=${change} />`;
    default:
      return html`<${Field} ...${shared} rows=${rows} maxlength=${field.maximum ?? undefined} spellcheck=${rows ? undefined : false}
        autocomplete="off" value=${value} after=${after}
        onInput=${name === "slug" ? (/** @type {string} */ to) => change(slugOf(to)) : change} />`;
  }
}

/** @param {string} name @returns {string} what a search finds the field by */
export function wordsOf(name) {
  const group = allFields.value[name]?.group ?? "installed";
  return `${t(`section.${group}`)} ${fieldLabel(name)} ${hintOf(name) ?? ""} ${name}`.toLowerCase();
}

/** @param {string} name @returns {string | undefined} */
function hintOf(name) {
  const output = outputOfFlag(name);
  if (hasWords(`field.${name}.hint`)) return t(`field.${name}.hint`, { zone: zoneName() });
  return output && hasWords(`output.${output}.hint`) ? t(`output.${output}.hint`) : undefined;
}

/**
 * The options of a choice: first the gateway's own setting, if that is the default. A stored value that is not offered
 * is added, because an older client wrote it.
 * @param {import("./fields.js").Field} field @param {string} value
 * @param {(name: string) => string} missing  see `useMissing`
 * @param {string} [setting]  of the gateway
 */
function optionsOf({ name, default: absent, values }, value, missing, setting) {
  const offered = values.map((one) => {
    const lack = one === value ? "" : missing(`${name}.${one}`);
    return { value: one, label: lack ? `${labelOfChoice(name, one)}: ${lack}` : labelOfChoice(name, one), disabled: lack !== "" };
  });
  if (!absent) offered.unshift({ value: "", label: setting ? t("field.default.is", { what: labelOfChoice(name, setting) }) : t("field.default"), disabled: false });
  return value === "" || values.includes(value) ? offered : [...offered, { value, label: value, disabled: false }];
}

/** @param {string} name @param {string} value @returns {string} */
function labelOfChoice(name, value) {
  if (hasWords(`choice.${name}.${value}`)) return t(`choice.${name}.${value}`);
  return hasWords(`size.${value}`) ? t(`size.${value}`) : value;
}
