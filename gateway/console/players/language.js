/** The language of the page: that of the browser, until the viewer chooses another. */

import { keep, recall } from "./memory.js";

/** @typedef {"en" | "zh"} Language */

/** @type {Language} */
let language = preferred();

/** @type {(() => void)[]} */
const spoken = [];

/** @returns {Language} the language chosen in this browser, else the first of the browser's own that the pages speak */
export function preferred() {
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
 * Fills the `{name}` of a text; numbers are formatted for the language.
 * @param {string} text
 * @param {Record<string, string | number>} fill
 * @param {Language} language
 */
export function filled(text, fill, language) {
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    const value = fill[name];
    return value === undefined ? all : typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

/**
 * @template {string} Word
 * @param {Record<Language, Record<Word, string>>} tables
 * @returns {(word: Word, fill?: Record<string, string | number>) => string}  the text in the current language
 */
export function translator(tables) {
  return (word, fill = {}) => filled(tables[language][word], fill, language);
}
