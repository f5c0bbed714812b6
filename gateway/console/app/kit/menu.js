/** A button that opens a short list of actions. */

import { useEffect, useRef, useState } from "preact/hooks";

import { classes, html, uniqueId } from "../html.js";
import { Icon } from "./icon.js";

/**
 * @typedef {object} MenuItem
 * @property {string} label
 * @property {import("./icon.js").IconName} [icon]
 * @property {() => void} [onSelect]
 * @property {string} [href]      instead of onSelect: a link
 * @property {boolean} [external] the link opens in a new tab
 * @property {boolean} [danger]
 * @property {boolean} [disabled]
 * @property {boolean} [checked]  the current choice, in a list of choices
 */

/**
 * @param {{label: string, items: MenuItem[], icon?: import("./icon.js").IconName, children?: any,
 *   class?: string, up?: boolean, start?: boolean}} props
 *   children: the button's text; without it the button is an icon named `label`. up: opens upwards. start: aligned to the button's start.
 */
export function Menu({ label, items, icon = "more", children, class: more, up = false, start = false }) {
  const [open, setOpen] = useState(false);
  const root = useRef(/** @type {HTMLElement | null} */ (null));
  const id = useRef("");
  if (!id.current) id.current = uniqueId("menu");
  /** @returns {HTMLElement[]} */
  const entries = () => [...(root.current?.querySelectorAll("[role^=menuitem]:not([aria-disabled=true])") ?? [])]
    .filter((e) => e instanceof HTMLElement);
  const button = () => root.current?.querySelector("button");

  useEffect(() => {
    if (!open) return undefined;
    (entries().find((e) => e.getAttribute("aria-checked") === "true") ?? entries()[0])?.focus();
    const outside = (/** @type {Event} */ event) => { if (!root.current?.contains(/** @type {Node} */ (event.target))) setOpen(false); };
    document.addEventListener("pointerdown", outside);
    return () => document.removeEventListener("pointerdown", outside);
  }, [open]);

  const close = () => { setOpen(false); button()?.focus(); };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (!open) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); setOpen(true); }
      return;
    }
    const all = entries();
    const at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    switch (event.key) {
      case "Escape": event.stopPropagation(); event.preventDefault(); close(); return;
      case "Tab": setOpen(false); return;
      case "ArrowDown": all[(at + 1) % all.length]?.focus(); break;
      case "ArrowUp": all[(at - 1 + all.length) % all.length]?.focus(); break;
      case "Home": all[0]?.focus(); break;
      case "End": all.at(-1)?.focus(); break;
      default: return;
    }
    event.preventDefault();
  };
  const choose = (/** @type {MenuItem} */ item) => {
    if (item.disabled) return;
    close();
    item.onSelect?.();
  };
  const left = (/** @type {FocusEvent} */ event) => {
    if (open && event.relatedTarget && !root.current?.contains(/** @type {Node} */ (event.relatedTarget))) setOpen(false);
  };
  return html`<div class=${classes("menu", more)} ref=${root} onKeyDown=${keys} onFocusOut=${left}>
    <button type="button" class=${children ? "button quiet" : "button quiet icon-only"}
        aria-haspopup="menu" aria-expanded=${open ? "true" : "false"}
        aria-controls=${open ? id.current : undefined} aria-label=${children ? undefined : label} title=${children ? undefined : label}
        onClick=${() => setOpen(!open)}>
      <${Icon} name=${icon} />${children && html`<span class="words">${children}</span>`}
    </button>
    ${open && html`<div class=${classes("menu-list", up && "up", start && "start")} role="menu" id=${id.current} aria-label=${label}>
      ${items.map((item) => {
        const choice = item.checked !== undefined;
        const shared = {
          role: choice ? "menuitemradio" : "menuitem", tabindex: -1, class: classes(item.danger && "danger"),
          "aria-checked": choice ? String(item.checked) : undefined, "aria-disabled": item.disabled ? "true" : undefined,
          onClick: () => choose(item),
        };
        const inside = html`${item.icon && html`<${Icon} name=${item.icon} />`}<span class="grow">${item.label}</span>
          ${item.checked && html`<${Icon} name="check" size=${16} />`}`;
        return item.href
          ? html`<a key=${item.label} href=${item.href} ...${item.external ? { target: "_blank", rel: "noopener" } : {}}
            ...${shared}>${inside}</a>`
          : html`<button key=${item.label} type="button" ...${shared}>${inside}</button>`;
      })}
    </div>`}
  </div>`;
}
