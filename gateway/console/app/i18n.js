/** All visible texts by their keys, in the user's language. */

import { signal } from "@preact/signals";

import { filled, preferred } from "../players/language.js";
import { keep } from "../players/memory.js";

/** @typedef {import("../players/language.js").Language} Language */
/** @typedef {string | {one: string, other: string}} Words  `one` and `other`: chosen by the number `n` */

/** @typedef {Record<Language, Record<string, Words>>} Tables */

/** The texts that are always needed. A view brings its own. @type {Record<Language, () => Promise<{default: Record<string, Words>}>>} */
const FIRST = { en: () => import("./words/en.js"), zh: () => import("./words/zh.js") };

/** The name of each language in this language. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", zh: "中文" };

/** The current language. A component that calls `t` while it renders is rendered again when it changes. */
export const language = signal(/** @type {Language} */ ("en"));

/** @type {Tables} */
const known = { en: {}, zh: {} };

/** Adds the texts of a view. @param {Tables} tables */
export function addTables(tables) {
  for (const at of /** @type {Language[]} */ (Object.keys(known))) Object.assign(known[at], tables[at]);
}

/**
 * Adds a text that comes from elsewhere, such as the gateway. A language without a text shows the English one.
 * @param {string} key
 * @param {Record<string, string>} words  by language
 */
export function addWords(key, words) {
  for (const at of /** @type {Language[]} */ (Object.keys(known))) known[at][key] ??= words[at] ?? words["en"] ?? key;
}

/** @param {string} key @returns {boolean} whether the current language has a text for it */
export const hasWords = (key) => known[language.value][key] !== undefined;

/**
 * Changes the language. lasting: keep the choice in this browser.
 * @param {Language} to
 * @param {boolean} [lasting]
 */
export async function setLanguage(to, lasting = true) {
  if (lasting) keep("language", to);
  Object.assign(known[to], (await FIRST[to]()).default);
  document.documentElement.lang = to === "zh" ? "zh-Hans" : to;
  language.value = to;
}

/** Settles when the texts of the first language are loaded. */
export const wordsReady = setLanguage(preferred(), false);

/**
 * Returns the text of `key`, with `{name}` filled from `vars`. Numbers are formatted for the language.
 * @param {string} key
 * @param {Record<string, string | number>} [vars]
 * @returns {string}
 */
export function t(key, vars = {}) {
  const at = language.value;
  const words = known[at][key];
  if (words === undefined) return key;
  const one = typeof words !== "string" && new Intl.PluralRules(at).select(Number(vars["n"])) === "one";
  const chosen = typeof words === "string" ? words : words[one ? "one" : "other"];
  return filled(chosen, vars, at);
}
