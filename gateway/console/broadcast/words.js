/** All visible texts by their keys, in the user's language. */

import en from "./words/en.js";
import zh from "./words/zh.js";
import { translator } from "../players/language.js";

/** @typedef {keyof typeof en} Word */

/** @type {Record<import("../players/language.js").Language, Record<Word, string>>} */
const TABLES = { en, zh };

/** @param {string} key @returns {key is Word} */
export const isWord = (key) => key in en;

export const t = translator(TABLES);

/**
 * Sets the texts of a page's elements: `data-word` names the text, `data-label` the accessible name.
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
