/** The theme: light, dark, or that of the system. */

import { signal } from "@preact/signals";

import { keep, recall } from "../players/memory.js";

/** @typedef {"auto" | "light" | "dark"} Theme */

/** @type {Theme[]} */
export const THEMES = ["auto", "light", "dark"];

/** @param {unknown} value @returns {value is Theme} */
export const isTheme = (value) => value === "auto" || value === "light" || value === "dark";

const chosen = recall("theme");

/** @type {import("@preact/signals").Signal<Theme>} */
export const theme = signal(isTheme(chosen) ? chosen : "auto");

/** @param {Theme} to */
export function setTheme(to) {
  keep("theme", to === "auto" ? null : to);
  theme.value = to;
  if (to === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = to;
}

const system = matchMedia("(prefers-color-scheme: dark)");

/** Whether dark colours are shown now; charts, for example, depend on it. */
export const dark = signal(system.matches);

function look() {
  dark.value = theme.value === "dark" || (theme.value === "auto" && system.matches);
}
theme.subscribe(look);
system.addEventListener("change", look);
