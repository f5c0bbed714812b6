/** The theme: light, dark, or that of the system. */

import { keep, recall } from "./memory.js";

/** @typedef {"auto" | "light" | "dark"} Theme */
/** @typedef {`theme.${Theme}`} Shown */

/** @type {Theme[]} */
export const THEMES = ["auto", "light", "dark"];

/** @returns {Theme} the theme chosen in this browser */
export const chosenTheme = () => THEMES.find((one) => one === recall("theme")) ?? "auto";

/** Shows the page in a theme. @param {Theme} theme */
export function showTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/**
 * @param {HTMLButtonElement} button  switches between the three; the choice is stored
 * @param {(show: () => void) => void} speak  runs it now, and again whenever the language changes
 * @param {(word: Shown) => string} t
 */
export function themed(button, speak, t) {
  let theme = chosenTheme();
  function show() {
    showTheme(theme);
    button.textContent = t(`theme.${theme}`);
  }
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    keep("theme", theme);
    show();
  });
  speak(show);
}
