/** The gateway's sentences about failing outputs and inputs, in the language of the user. */

import { addTables, t } from "../../i18n.js";
import words from "../../words/errors.js";

addTables(words);

/** @type {[name: string, sentence: RegExp][]} */
const KNOWN = Object.entries(words.en).map(([key, text]) => [key.replace("error.", ""),
  new RegExp(`^${String(text).replace(/[.()?]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+)")}$`)]);

/** @param {string} text  of the gateway @returns {string} unchanged if the console does not know the sentence */
export function errorText(text) {
  for (const [name, sentence] of KNOWN) {
    const found = sentence.exec(text);
    if (!found) continue;
    const { reason, ...rest } = found.groups ?? {};
    return t(`error.${name}`, reason === undefined ? rest : { ...rest, reason: errorText(reason) });
  }
  return text;
}
