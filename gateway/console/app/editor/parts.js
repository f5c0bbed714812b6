/** The controls of the editor: a field by its name, with its label, hint, limits and error. */

import { fieldLabel, outputOfFlag, slugOf, zoneName } from "../channel.js";
import { hasWords, t } from "../i18n.js";
import { useMissing } from "../missing_outputs.js";
import { Field, html, IconButton, Button, Select, Switch } from "../ui.js";
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
 * @param {{form: Form, name: string, unit?: any}} props  unit: shown instead of the field's own
 */
export function Entry({ form, name, unit }) {
  const field = allFields.value[name];
  if (!field) throw new Error(`there is no field ${name}`);
  const after = unit ?? (hasWords(`unit.${field.unit}`) ? t(`unit.${field.unit}`) : field.unit);
  const missing = useMissing();
  const { rows, ...extras } = EXTRAS[name] ?? {};
  const shared = { name, label: fieldLabel(name), hint: field.used === false ? t("entry.unused") : hintOf(name), error: form.errors[name], ...extras };
  const value = form.draft[name];
  const change = (/** @type {string | boolean | import("./fields.js").Caption[]} */ to) => form.set({ [name]: to });
  switch (field.type) {
    case "flag": {
      const lack = value ? "" : missing(outputOfFlag(name));
      return html`<${Switch} ...${shared} hint=${lack || shared.hint} disabled=${lack !== ""} checked=${value} onChange=${change} />`;
    }
    case "choice":
      return html`<${Select} ...${shared} value=${value} options=${optionsOf(field, value, form.defaults?.[name])} onChange=${change} />`;
    case "number":
    case "days":
      return html`<${Field} ...${shared} type="number" inputmode=${field.type === "days" ? "numeric" : "decimal"}
        min=${field.minimum ?? undefined} max=${field.maximum ?? undefined} step=${field.whole ? 1 : "any"}
        value=${value} after=${after} onInput=${change} />`;
    case "moment":
      return html`<${ExpiryField} ...${shared} value=${value} onInput=${change} />`;
    case "targets":
      return html`<p class="hint">${shared.hint}</p><${Targets} form=${form} field=${field} />`;
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
 * @param {string} [setting]  of the gateway
 */
function optionsOf({ name, default: absent, values }, value, setting) {
  const offered = values.map((one) => ({ value: one, label: labelOfChoice(name, one) }));
  if (!absent) offered.unshift({ value: "", label: setting ? t("field.default.is", { what: labelOfChoice(name, setting) }) : t("field.default") });
  return value === "" || values.includes(value) ? offered : [...offered, { value, label: value }];
}

/** @param {string} name @param {string} value @returns {string} */
function labelOfChoice(name, value) {
  if (hasWords(`choice.${name}.${value}`)) return t(`choice.${name}.${value}`);
  return hasWords(`size.${value}`) ? t(`size.${value}`) : value;
}

/**
 * Addresses, one per line, each with a button to remove it.
 * @param {{form: Form, field: import("./fields.js").Field}} props
 */
function Targets({ form, field: { name, maximum } }) {
  const list = /** @type {string[]} */ (form.draft[name]);
  const error = form.errors[name];
  const change = (/** @type {string[]} */ next) => form.set({ [name]: next });
  const replace = (/** @type {number} */ at, /** @type {string} */ words) => change(list.map((one, i) => (i === at ? words : one)));
  return html`<div class="stack targets-editor" role="group" aria-label=${t(`field.${name}`)}>
    ${list.map((target, i) => html`<div class="row nowrap" key=${i}>
      <${Field} class="grow" label=${t("relay.target", { n: i + 1 })} hideLabel name=${i === 0 ? name : `${name}-${i}`} value=${target}
        spellcheck=${false} autocomplete="off" placeholder="rtmp://host/app/key"
        onInput=${(/** @type {string} */ words) => replace(i, words)} />
      <${IconButton} icon="close" label=${t("relay.without", { n: i + 1 })} onClick=${() => change(list.filter((_, at) => at !== i))} />
    </div>`)}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div><${Button} small icon="plus" disabled=${list.length >= (maximum ?? Infinity)} onClick=${() => change([...list, ""])}>
      ${t("relay.add")}<//></div>
  </div>`;
}
