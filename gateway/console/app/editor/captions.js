/** The list of a channel's captions: where each comes from, its language and name, and which one is shown first. */

import { hasWords, t } from "../i18n.js";
import { Button, Field, html, IconButton, Select, Switch } from "../ui.js";
import { captionOf } from "./fields.js";

/** @typedef {import("./fields.js").Caption} Caption */

const SOURCES = ["text", "speech", "cc1", "cc2", "cc3", "cc4", ...[1, 2, 3, 4, 5, 6].map((n) => `service${n}`)];

/** @param {string} source @returns {string} */
export const sourceName = (source) => (hasWords(`captions.source.${source}`) ? t(`captions.source.${source}`)
  : source.startsWith("service") ? t("captions.service", { n: source.slice("service".length) }) : source.toUpperCase());

/**
 * @param {{name: string, label: string, hint?: string | undefined, error?: string | undefined, maximum: number, value: Caption[],
 *   onChange: (value: Caption[]) => void}} props
 */
export function CaptionList({ name, label, hint, error, maximum, value, onChange }) {
  const change = (/** @type {number} */ at, /** @type {Partial<Caption>} */ more) =>
    onChange(value.map((one, i) => (i === at ? { ...one, ...more } : more.default ? { ...one, default: false } : one)));
  return html`<div class="stack captions-editor" role="group" aria-label=${label}>
    <div><p class="label">${label}</p><p class="hint">${hint}</p></div>
    ${value.map((caption, i) => html`<div class="caption-row" key=${i}>
      <${Select} label=${t("captions.from", { n: i + 1 })} name=${i === 0 ? name : `${name}-${i}`} value=${caption.source}
        options=${[...new Set([...SOURCES, caption.source])].map((source) => ({ value: source, label: sourceName(source) }))}
        onChange=${(/** @type {string} */ source) => change(i, { source })} />
      <${Field} class="short" label=${t("captions.language")} value=${caption.language} placeholder="en" maxlength="35" spellcheck=${false}
        autocomplete="off" onInput=${(/** @type {string} */ language) => change(i, { language })} />
      <${Field} class="grow" label=${t("captions.label")} value=${caption.label} placeholder="English" maxlength="64" autocomplete="off"
        onInput=${(/** @type {string} */ words) => change(i, { label: words })} />
      <${Switch} label=${t("captions.default")} checked=${caption.default} onChange=${(/** @type {boolean} */ on) => change(i, { default: on })} />
      <${IconButton} icon="close" label=${t("captions.without", { n: i + 1 })} onClick=${() => onChange(value.filter((_, at) => at !== i))} />
    </div>`)}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <div><${Button} small icon="plus" disabled=${value.length >= maximum} onClick=${() => onChange([...value, captionOf({})])}>
      ${t("captions.add")}<//></div>
  </div>`;
}
