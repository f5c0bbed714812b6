/** The installed outputs: their names, fields and switches, as the gateway describes them. */

import { computed, signal } from "@preact/signals";

import { api } from "../players/api.js";
import { addWords } from "./i18n.js";
import { once } from "./once.js";

/** @typedef {import("./editor/fields.js").Field & {label: Record<string, string>}} OutputField  label: by language */
/** @typedef {{name: string, flag: string, label: Record<string, string>, fields: OutputField[]}} DescribedOutput */

/** The outputs for which the console has no texts of its own. Empty until `loadInstalled` has settled. */
export const installed = signal(/** @type {DescribedOutput[]} */ ([]));

/** Settles when `installed` is known. Without an answer the console shows Millrace's own outputs and asks again later. */
export const loadInstalled = () => load().catch(() => undefined);

const load = once(async () => {
  /** @type {DescribedOutput[]} */
  const outputs = await api.get("/outputs");
  const found = outputs.filter((output) => Object.keys(output.label).length > 0);
  for (const output of found) {
    addWords(`output.${output.name}`, output.label);
    addWords(`output.short.${output.name}`, output.label);
    for (const field of output.fields) addWords(`field.${field.name}`, field.label);
  }
  installed.value = found;
});

/** The name and the flag of each installed output. */
export const installedSwitches = computed(
  () => installed.value.map((output) => /** @type {const} */ ([output.name, output.flag])),
);
