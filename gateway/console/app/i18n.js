/** All visible texts by their keys, in the user's language. */

import { signal } from "@preact/signals";

import { filled, preferred } from "../players/language.js";
import { keep } from "../players/memory.js";

/** @typedef {import("../players/language.js").Language} Language */
/** @typedef {string | {one: string, other: string}} Words  `one` and `other`: chosen by the number `n` */

/** @typedef {Record<Language, () => Promise<{default: Record<string, Words>}>>} Tables */

/** Texts that are always needed. @type {Tables} */
const FIRST = { en: () => import("./words/en.js"), zh: () => import("./words/zh.js") };

/** Texts of the views other than channels, loaded with the first of these views. @type {Tables} */
const MORE = { en: () => import("./words/en-views.js"), zh: () => import("./words/zh-views.js") };

/** The name of each language in this language. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", zh: "中文" };

/** The current language. A component that calls `t` while it renders is rendered again when it changes. */
export const language = signal(/** @type {Language} */ ("en"));

/** @type {Record<Language, Record<string, Words>>} */
const known = { en: {}, zh: {} };
let more = false;

/** @param {Language} which */
async function load(which) {
  const tables = await Promise.all([FIRST[which](), ...(more ? [MORE[which]()] : [])]);
  for (const table of tables) Object.assign(known[which], table.default);
}

/**
 * Adds texts that come from the gateway. A language without a text shows the English one.
 * @param {string} key
 * @param {Record<string, string>} words  by language
 */
export function addWords(key, words) {
  for (const at of /** @type {Language[]} */ (Object.keys(known))) known[at][key] ??= words[at] ?? words["en"] ?? key;
}

/** @param {string} key @returns {boolean} whether the current language has a text for it */
export const hasWords = (key) => known[language.value][key] !== undefined;

/** Settles when the texts of all views are loaded. */
export async function moreWords() {
  more = true;
  await load(language.peek());
}

/**
 * Changes the language. lasting: keep the choice in this browser.
 * @param {Language} to
 * @param {boolean} [lasting]
 */
export async function setLanguage(to, lasting = true) {
  if (lasting) keep("language", to);
  await load(to);
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
