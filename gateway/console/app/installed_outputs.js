/** The installed outputs: their names, fields and switches, as the gateway describes them. */

import { computed, signal } from "@preact/signals";

import { api } from "./api.js";
import { addWords } from "./i18n.js";

/** @typedef {import("./editor/fields.js").FieldKind} FieldKind */

/**
 * A field in the answer of `GET /outputs`.
 * @typedef {object} DescribedField
 * @property {string} name
 * @property {"flag" | "number" | "choice" | "text"} type
 * @property {any} default
 * @property {number | null} minimum
 * @property {number | null} maximum  of a text: its length
 * @property {boolean} whole
 * @property {string[]} values
 * @property {Record<string, string>} label  by language
 * @property {string} unit
 */
/** @typedef {{name: string, flag: string, label: Record<string, string>, fields: DescribedField[]}} DescribedOutput */

/** The outputs for which the console has no texts of its own. Empty until `loadInstalled` has settled. */
export const installed = signal(/** @type {DescribedOutput[]} */ ([]));

/** @type {Promise<void> | null} */
let loading = null;

/** Settles when `installed` is known. Without an answer the console shows Millrace's own outputs and asks again later. */
export function loadInstalled() {
  loading ??= load().catch(() => { loading = null; });
  return loading;
}

async function load() {
  /** @type {DescribedOutput[]} */
  const outputs = await api.get("/outputs");
  const found = outputs.filter((output) => Object.keys(output.label).length > 0);
  for (const output of found) {
    addWords(`output.${output.name}`, output.label);
    addWords(`output.short.${output.name}`, output.label);
    for (const field of output.fields) addWords(`field.${field.name}`, field.label);
  }
  installed.value = found;
}

/** The name and the flag of each installed output. */
export const installedSwitches = computed(() => installed.value.map((output) => /** @type {const} */ ([output.name, output.flag])));

/** The fields of installed outputs in the form of the editor. @type {import("@preact/signals").ReadonlySignal<Record<string, FieldKind>>} */
export const installedFields = computed(() => Object.fromEntries(installed.value.flatMap((output) => output.fields.map((field) => [field.name, kindOf(field)]))));

/** @param {DescribedField} field @returns {FieldKind} */
function kindOf(field) {
  switch (field.type) {
    case "flag": return { kind: "flag", absent: field.default };
    case "number": return { kind: "number", absent: field.default, least: field.minimum ?? 0, most: field.maximum ?? Number.MAX_SAFE_INTEGER, whole: field.whole };
    case "choice": return { kind: "choice", absent: field.default ?? "", values: field.values };
    case "text": return { kind: "text", absent: field.default ?? "", longest: field.maximum ?? 4096 };
  }
}
