/** The language of the page: that of the browser, until the viewer chooses another. */

import { keep, recall } from "./memory.js";

/** @typedef {"en" | "zh"} Language */

/** @type {Language} */
let language = chosen();

/** @type {(() => void)[]} */
const spoken = [];

/** @returns {Language} */
function chosen() {
  const kept = recall("language");
  if (kept === "en" || kept === "zh") return kept;
  const first = navigator.languages.find((l) => /^(en|zh)\b/i.test(l)) ?? "en";
  return /^zh/i.test(first) ? "zh" : "en";
}

/** @returns {Language} */
export const speaks = () => language;

/** @returns {string} for the `lang` attribute */
export function languageTag() { return language === "zh" ? "zh-CN" : "en"; }

/**
 * Runs `say` now, and again whenever the language changes.
 * @param {() => void} say
 */
export function speak(say) {
  spoken.push(say);
  say();
}

/** Changes to the other language, and remembers it. */
export function changeLanguage() {
  language = language === "zh" ? "en" : "zh";
  keep("language", language);
  for (const say of spoken) say();
}

/**
 * @template {string} Word
 * @param {Record<Language, Record<Word, string>>} tables
 * @returns {(word: Word, fill?: Record<string, string | number>) => string}  the text in the current language; `fill` is for
 *   `{name}`, its numbers are formatted for the language
 */
export function translator(tables) {
  return (word, fill = {}) => tables[language][word].replace(/\{(\w+)\}/g, (all, name) => {
    const value = fill[name];
    return value === undefined ? all : typeof value === "number" ? value.toLocaleString(language) : value;
  });
}
