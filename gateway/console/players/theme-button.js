/** The theme button, for pages whose head is made by script. */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { themed } from "./theme.js";
import { t } from "./words.js";

/** @returns {HTMLButtonElement} */
export function themeButton() {
  const button = h("button", { id: "theme", class: "plain", type: "button" });
  themed(button, speak, t);
  return button;
}
