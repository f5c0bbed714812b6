/** The theme: light, dark, or that of the system. */

import { signal } from "@preact/signals";

import { keep } from "../players/memory.js";
import { chosenTheme, showTheme, THEMES } from "../players/theme.js";

export { THEMES };

/** @typedef {import("../players/theme.js").Theme} Theme */

/** @param {unknown} value @returns {value is Theme} */
export const isTheme = (value) => THEMES.some((one) => one === value);

/** @type {import("@preact/signals").Signal<Theme>} */
export const theme = signal(chosenTheme());

/** @param {Theme} to */
export function setTheme(to) {
  keep("theme", to === "auto" ? null : to);
  theme.value = to;
  showTheme(to);
}

const system = matchMedia("(prefers-color-scheme: dark)");

/** Whether dark colours are shown now; charts, for example, depend on it. */
export const dark = signal(system.matches);

function look() {
  dark.value = theme.value === "dark" || (theme.value === "auto" && system.matches);
}
theme.subscribe(look);
system.addEventListener("change", look);
