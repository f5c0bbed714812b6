/** One idea: light, dark, or as the system has it. */

import { keep, recall } from "../players/memory.js";
import { speak, t } from "./words.js";

const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

/** @param {HTMLButtonElement} button  goes round the three; the choice holds from now on */
export function themed(button) {
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
