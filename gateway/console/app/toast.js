/** Short messages that appear, are read out by screen readers, and disappear by themselves. */

import { signal } from "@preact/signals";

import { html } from "./html.js";
import { t } from "./i18n.js";
import { Icon } from "./kit/icon.js";

/** @typedef {"ok" | "info" | "warn" | "bad"} ToastKind */

const LAST = { ok: 3500, info: 5000, warn: 8000, bad: 10000 }; // milliseconds; errors stay longer
const LAST_WITH_ACTION = 12_000;
const MOST = 4;

/** @typedef {{label: string, run: () => void}} ToastAction */
/** @type {import("@preact/signals").Signal<{id: number, text: string, kind: ToastKind, action?: ToastAction | undefined}[]>} */
const toasts = signal([]);
let made = 0;

/**
 * @param {string} text
 * @param {ToastKind} [kind]
 * @param {ToastAction} [action]  a button, such as Undo
 */
export function toast(text, kind = "info", action) {
  const id = ++made;
  // An equal message replaces the old one instead of adding another.
  toasts.value = [...toasts.value.filter((one) => one.text !== text), { id, text, kind, action }].slice(-MOST);
  setTimeout(() => dismiss(id), action ? LAST_WITH_ACTION : LAST[kind]);
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
      ${one.action && html`<button type="button" class="button small"
        onClick=${() => { dismiss(one.id); one.action?.run(); }}>${one.action.label}</button>`}
      <button type="button" class="button quiet icon-only" aria-label=${t("toast.dismiss")} onClick=${() => dismiss(one.id)}>
        <${Icon} name="close" size=${16} /></button>
    </div>`)}
  </div>`;
}
