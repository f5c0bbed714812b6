/** Short messages that appear, are read out by screen readers, and disappear by themselves. */

import { signal } from "@preact/signals";

import { html } from "./html.js";
import { t } from "./i18n.js";
import { Icon } from "./kit/icon.js";

/** @typedef {"ok" | "info" | "warn" | "bad"} ToastKind */

const LAST = { ok: 3500, info: 5000, warn: 8000, bad: 10000 }; // milliseconds; errors stay longer
const MOST = 4;

/** @type {import("@preact/signals").Signal<{id: number, text: string, kind: ToastKind}[]>} */
const toasts = signal([]);
let made = 0;

/**
 * @param {string} text
 * @param {ToastKind} [kind]
 */
export function toast(text, kind = "info") {
  const id = ++made;
  // An equal message replaces the old one instead of adding another.
  toasts.value = [...toasts.value.filter((one) => one.text !== text), { id, text, kind }].slice(-MOST);
  setTimeout(() => dismiss(id), LAST[kind]);
}

/** @param {number} id */
function dismiss(id) {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}

/** The place of messages; used once on the page. A popover, so that it is above open dialogs. */
export function Toasts() {
  const raise = (/** @type {HTMLElement | null} */ element) => {
    if (!element || !("showPopover" in element)) return;
    // Moves it to the top again, also above a dialog that was opened since.
    if (element.matches(":popover-open")) element.hidePopover();
    if (toasts.value.length) element.showPopover();
  };
  return html`<div class="toasts" popover="manual" ref=${raise} key=${toasts.value.at(-1)?.id ?? 0}>
    ${toasts.value.map((one) => html`<div key=${one.id} class=${`toast ${one.kind}`}
      role=${one.kind === "bad" || one.kind === "warn" ? "alert" : "status"}>
      <${Icon} name=${one.kind === "ok" ? "check" : one.kind === "info" ? "info" : "warning"} />
      <span class="grow">${one.text}</span>
      <button type="button" class="button quiet icon-only" aria-label=${t("toast.dismiss")} onClick=${() => dismiss(one.id)}>
        <${Icon} name="close" size=${16} /></button>
    </div>`)}
  </div>`;
}
