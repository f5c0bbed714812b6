/** The controls of the editor: a field by its name, with its label, hint, limits and error. */

import { t } from "../i18n.js";
import { Field, html, IconButton, Button, Select, Switch } from "../ui.js";
import { allFields } from "./fields.js";

/** @typedef {import("./fields.js").Draft} Draft */

/**
 * The data for every control.
 * @typedef {object} Form
 * @property {Draft} draft
 * @property {Record<string, string>} errors  by field
 * @property {(changes: Draft) => void} set
 */

/**
 * A field by its name; words are `field.<name>` and, where `hint` is set, `field.<name>.hint`.
 * @param {{form: Form, name: string, hint?: boolean | string, unit?: string, rows?: number, label?: string, [rest: string]: any}} props
 */
export function Entry({ form, name, hint = false, unit, rows, label, ...rest }) {
  const field = allFields.value[name];
  if (!field) throw new Error(`there is no field ${name}`);
  const shared = {
    name, label: label ?? t(`field.${name}`), error: form.errors[name], ...rest,
    hint: typeof hint === "string" ? hint : hint ? t(`field.${name}.hint`) : undefined,
  };
  const value = form.draft[name];
  switch (field.kind) {
    case "flag":
      return html`<${Switch} ...${shared} checked=${value} onChange=${(/** @type {boolean} */ on) => form.set({ [name]: on })} />`;
    case "choice":
      return html`<${Select} ...${shared} value=${value} onChange=${(/** @type {string} */ one) => form.set({ [name]: one })}
        options=${[...(field.absent === "" ? [{ value: "", label: t("field.default") }] : []), ...choices(field.values, value).map((one) => ({ value: one, label: labelled(name, one, field.values) }))]} />`;
    case "number":
      return html`<${Field} ...${shared} type="number" inputmode="decimal" min=${field.least} max=${field.most} step=${field.whole ? 1 : "any"} value=${value} after=${unit}
        onInput=${(/** @type {string} */ words) => form.set({ [name]: words })} />`;
    case "days":
      return html`<${Field} ...${shared} type="number" inputmode="numeric" min="0" max="36500" step="1" value=${value} after=${unit}
        onInput=${(/** @type {string} */ words) => form.set({ [name]: words })} />`;
    case "moment":
      return html`<${Field} ...${shared} type="datetime-local" value=${value} onInput=${(/** @type {string} */ words) => form.set({ [name]: words })} />`;
    default:
      return html`<${Field} ...${shared} rows=${rows ?? (field.kind === "hosts" ? 3 : undefined)} maxlength=${"longest" in field ? field.longest : undefined} spellcheck=${rows ? undefined : false}
        autocomplete="off" value=${value} after=${unit} onInput=${(/** @type {string} */ words) => form.set({ [name]: words })} />`;
  }
}

/** Adds the stored value if an older client wrote one that is not offered. @param {string[]} values @param {string} value */
const choices = (values, value) => (value === "" || values.includes(value) ? values : [...values, value]);

/**
 * Returns the words for a value; a value that only an older client knew is returned unchanged.
 * @param {string} name @param {string} value @param {string[]} known
 */
function labelled(name, value, known) {
  if (!known.includes(value)) return value;
  switch (name) {
    case "codec": return t(`codec.${value}`);
    case "logLevel": return t(`logLevel.${value}`);
    case "playAuth": return t(`playAuth.${value}`);
    default: return t(`size.${value}`);
  }
}

/**
 * Addresses, one per line, each with a button to remove it.
 * @param {{form: Form, name: string}} props
 */
export function Targets({ form, name }) {
  const list = /** @type {string[]} */ (form.draft[name]);
  const error = form.errors[name];
  const change = (/** @type {string[]} */ next) => form.set({ [name]: next });
  return html`<div class="stack targets-editor" role="group" aria-label=${t(`field.${name}`)}>
    ${list.map((target, i) => html`<div class="row nowrap" key=${i}>
      <${Field} class="grow" label=${t("relay.target", { n: i + 1 })} hideLabel name=${i === 0 ? name : `${name}-${i}`} value=${target} spellcheck=${false} autocomplete="off"
        placeholder="rtmp://host/app/key" onInput=${(/** @type {string} */ words) => change(list.map((one, at) => (at === i ? words : one)))} />
      <${IconButton} icon="close" label=${t("relay.without", { n: i + 1 })} onClick=${() => change(list.filter((_, at) => at !== i))} />
    </div>`)}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div><${Button} small icon="plus" disabled=${list.length >= 16} onClick=${() => change([...list, ""])}>${t("relay.add")}<//></div>
  </div>`;
}
