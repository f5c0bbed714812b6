/** Text to copy: shown completely, selected by a click, copied by a button. */

import { useEffect, useState } from "preact/hooks";

import { html } from "../html.js";
import { t } from "../i18n.js";
import { toast } from "../toast.js";
import { IconButton } from "./button.js";
import { isScannable, QrButton } from "./qr.js";

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it is in the clipboard now
 */
export async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not permitted here.
    }
  }
  // A page over plain HTTP has no clipboard object, but can copy selected text.
  const before = /** @type {?HTMLElement} */ (document.activeElement);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  // While a dialog is open, everything outside of it is inert.
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
    before?.focus();
  }
}

/**
 * Its name is "Copy <label>".
 * @param {{label: string, value: string, name?: string}} props  name: replaces the label in the
 *   button's name, if the label is not clear enough
 */
export function CopyButton({ label, value, name = label }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    if (await copyText(value)) {
      setCopied(true);
      toast(t("copy.done", { what: name }), "ok");
    } else toast(t("copy.failed"), "bad");
  };
  return html`<${IconButton} icon=${copied ? "check" : "copy"} label=${t("copy.button", { what: name })} onClick=${copy}
    class=${copied ? "done" : ""} />`;
}

/**
 * A labelled text with a copy button, and a QR code of an address.
 * @param {{label: string, value: string, shown?: string, name?: string, hint?: any, after?: any}} props  after: further
 *   buttons. shown: the text on the page, if parts of the value are hidden
 */
export function CopyField({ label, value, shown = value, name, hint, after }) {
  const select = (/** @type {MouseEvent} */ event) => {
    const selection = getSelection();
    // Keeps a selection of the user.
    if (selection && selection.isCollapsed) selection.selectAllChildren(/** @type {Element} */ (event.currentTarget));
  };
  return html`<div class="copy-field">
    <span class="label">${label}</span>
    <div class="box">
      <code onClick=${select}>${shown}</code>
      <span class="after"><${CopyButton} label=${label} name=${name} value=${value} />
        ${isScannable(value) && html`<${QrButton} label=${name ?? label} value=${value}
          secret=${shown !== value} />`}${after}</span>
    </div>
    ${hint && html`<p class="hint">${hint}</p>`}
  </div>`;
}
