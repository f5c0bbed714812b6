/** The bar at the top of a page: its name, and the buttons for the language and the theme. */

import { h } from "./dom.js";
import { changeLanguage, languageTag, speak } from "./language.js";
import { themeButton } from "./theme-button.js";
import { t } from "./words.js";

export const mark = () => h("img", { class: "mark", src: "/_player/icon.svg", alt: "", width: "28", height: "28" });

/**
 * @param {HTMLElement} name  what stands at the left end
 * @param {...HTMLElement} between
 */
export function bar(name, ...between) {
  return h("header", { class: "bar" }, name, ...between, h("div", { class: "switches" }, languageButton(), themeButton()));
}

/**
 * The bar of a page with a heading.
 * @param {HTMLElement} heading
 * @param {...HTMLElement} between
 */
export const titleBar = (heading, ...between) => bar(h("div", { class: "name" }, mark(), heading), ...between);

function languageButton() {
  const button = h("button", { id: "language", class: "plain", type: "button", onclick: changeLanguage });
  speak(() => {
    button.textContent = t("language.other");
    button.lang = languageTag() === "en" ? "zh-CN" : "en";
  });
  return button;
}
