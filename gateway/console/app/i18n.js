/** One idea: every visible word by its key, in the reader's language. */

import { signal } from "@preact/signals";

import { keep, recall } from "../players/memory.js";

/** @typedef {"en" | "zh"} Language */
/** @typedef {string | {one: string, other: string}} Words  `one` and `other`: chosen by the number `n` */

/** @typedef {Record<Language, () => Promise<{default: Record<string, Words>}>>} Tables */

/** The words that are always needed. @type {Tables} */
const FIRST = { en: () => import("./words/en.js"), zh: () => import("./words/zh.js") };

/** Those of the views besides channels, fetched with the first of these. @type {Tables} */
const MORE = { en: () => import("./words/en-views.js"), zh: () => import("./words/zh-views.js") };

/** Each language in its own words. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", zh: "中文" };

/** The language that is shown. Whatever calls `t` while it renders is rendered again when it changes. */
export const language = signal(/** @type {Language} */ ("en"));

/** @type {Record<Language, Record<string, Words>>} */
const known = { en: {}, zh: {} };
let more = false;

/** @param {Language} which */
async function load(which) {
  const tables = await Promise.all([FIRST[which](), ...(more ? [MORE[which]()] : [])]);
  for (const table of tables) Object.assign(known[which], table.default);
}

/** Settles when the words of every view are there. */
export async function moreWords() {
  more = true;
  await load(language.peek());
}

/** @returns {Language} what was chosen in this browser, else what the browser asks for */
function preferred() {
  const chosen = recall("language");
  if (chosen === "en" || chosen === "zh") return chosen;
  return (navigator.languages[0] ?? navigator.language).toLowerCase().startsWith("zh") ? "zh" : "en";
}

/**
 * Shows another language, and keeps the choice in this browser.
 * @param {Language} to
 * @param {boolean} [lasting]
 */
export async function setLanguage(to, lasting = true) {
  if (lasting) keep("language", to);
  await load(to);
  document.documentElement.lang = to === "zh" ? "zh-Hans" : to;
  language.value = to;
}

/** Settles when the words of the first language are there. */
export const wordsReady = setLanguage(preferred(), false);

/**
 * The words of `key`, with `{name}` filled from `vars`. Numbers are written in the language's way.
 * @param {string} key
 * @param {Record<string, string | number>} [vars]
 * @returns {string}
 */
export function t(key, vars = {}) {
  const at = language.value;
  const words = known[at][key];
  if (words === undefined) return key;
  const chosen = typeof words === "string" ? words : words[new Intl.PluralRules(at).select(Number(vars["n"])) === "one" ? "one" : "other"];
  return chosen.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = vars[name];
    return value === undefined ? whole : typeof value === "number" ? value.toLocaleString(at) : value;
  });
}
