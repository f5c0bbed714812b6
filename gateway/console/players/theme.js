/** The theme: light, dark, or that of the system. */

import { keep, recall } from "./memory.js";

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

/** @typedef {`theme.${typeof THEMES[number]}`} Shown */

/**
 * @param {HTMLButtonElement} button  switches between the three; the choice is stored
 * @param {(show: () => void) => void} speak  runs it now, and again whenever the language changes
 * @param {(word: Shown | `${Shown}.says`) => string} t
 */
export function themed(button, speak, t) {
  let theme = THEMES.find((one) => one === recall("theme")) ?? "auto";
  function show() {
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    button.textContent = t(`theme.${theme}`);
    button.setAttribute("aria-label", t(`theme.${theme}.says`));
  }
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    keep("theme", theme);
    show();
  });
  speak(show);
}
