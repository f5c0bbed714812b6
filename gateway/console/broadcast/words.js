/** One idea: every visible word by its key, in the reader's language. */

import en from "./words/en.js";
import zh from "./words/zh.js";
import { keep, recall } from "../players/memory.js";

/** @typedef {keyof typeof en} Word */
/** @typedef {"en" | "zh"} Language */

/** @type {Record<Language, Record<Word, string>>} */
export const TABLES = { en, zh };

/** @type {Language} */
let language = preferred();

/** @type {(() => void)[]} */
const spoken = [];

/** @returns {Language} what was chosen in this browser, else what the browser asks for */
function preferred() {
  const chosen = recall("language");
  if (chosen === "en" || chosen === "zh") return chosen;
  return /^zh\b/i.test(navigator.languages.find((one) => /^(en|zh)\b/i.test(one)) ?? "en") ? "zh" : "en";
}

/** @returns {Language} */
export const speaks = () => language;

/**
 * Runs `say` now, and again whenever the language changes.
 * @param {() => void} say
 */
export function speak(say) {
  spoken.push(say);
  say();
}

/** @param {Language} to */
export function setLanguage(to) {
  keep("language", to);
  language = to;
  for (const say of spoken) say();
}

/** @param {string} key @returns {key is Word} */
export const isWord = (key) => key in en;

/**
 * @param {Word} word
 * @param {Record<string, string | number>} [fill]  for `{name}`; numbers are written in the language's way
 * @returns {string}
 */
export function t(word, fill = {}) {
  return TABLES[language][word].replace(/\{(\w+)\}/g, (all, name) => {
    const value = fill[name];
    return value === undefined ? all : typeof value === "number" ? value.toLocaleString(language) : value;
  });
}

/**
 * Puts the words of a page's own elements in their places: `data-word` is the text, `data-label` the accessible name.
 * @param {ParentNode} root
 */
export function fillWords(root) {
  for (const element of root.querySelectorAll("[data-word], [data-label]")) {
    if (!(element instanceof HTMLElement)) continue;
    const { word = "", label = "" } = element.dataset;
    if (isWord(word)) element.textContent = t(word);
    if (isWord(label)) element.setAttribute("aria-label", t(label));
  }
}
