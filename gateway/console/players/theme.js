/** One idea: light, dark, or as the system has it. */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { keep, recall } from "./memory.js";
import { t } from "./words.js";

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

/** @returns {HTMLButtonElement} goes round the three; the choice holds from now on */
export function themeButton() {
  const kept = THEMES.find((theme) => theme === recall("theme"));
  let theme = kept ?? "auto";
  const button = h("button", { id: "theme", class: "plain", type: "button", onclick: next });
  function show() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = t(`theme.${theme}`);
    button.setAttribute("aria-label", t(`theme.${theme}.says`));
  }
  function next() {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    keep("theme", theme);
    show();
  }
  speak(show);
  return button;
}
