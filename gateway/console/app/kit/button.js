/** Buttons, links that look like buttons, and buttons with only an icon. */

import { classes, html } from "../html.js";
import { Icon } from "./icon.js";

/** @typedef {import("./icon.js").IconName} IconName */
/** @typedef {"primary" | "plain" | "quiet" | "danger"} ButtonKind */

/**
 * `busy`: the action is running; the button keeps its width and cannot be pressed again.
 * @param {{kind?: ButtonKind, icon?: IconName, busy?: boolean, small?: boolean, type?: "button" | "submit", disabled?: boolean,
 *   onClick?: (event: MouseEvent) => void, children?: any, class?: string, [rest: string]: any}} props
 */
export function Button({ kind = "plain", icon, busy = false, small = false, type = "button", disabled = false, onClick, children,
  class: more, ...rest }) {
  return html`<button type=${type} class=${classes("button", kind, small && "small", more)} disabled=${disabled}
      aria-busy=${busy ? "true" : undefined} aria-disabled=${busy ? "true" : undefined}
      onClick=${(/** @type {MouseEvent} */ event) => { if (busy) event.preventDefault(); else onClick?.(event); }} ...${rest}>
    ${icon && html`<${Icon} name=${icon} />`}<span class="words">${children}</span>
  </button>`;
}

const NEW_TAB = { target: "_blank", rel: "noopener" };

/**
 * A link that looks like a button. `external`: opens in a new tab.
 * @param {{href: string, kind?: ButtonKind, icon?: IconName, small?: boolean, external?: boolean,
 *   children?: any, class?: string, [rest: string]: any}} props
 */
export function LinkButton({ href, kind = "plain", icon, small = false, external = false, children, class: more, ...rest }) {
  return html`<a href=${href} class=${classes("button", kind, small && "small", more)}
      ...${external ? NEW_TAB : {}} ...${rest}>
    ${icon && html`<${Icon} name=${icon} />`}<span class="words">${children}</span>
  </a>`;
}

/**
 * A button with only an icon; `label` is its accessible name and tooltip.
 * @param {{icon: IconName, label: string, onClick?: (event: MouseEvent) => void, disabled?: boolean,
 *   kind?: ButtonKind, class?: string, [rest: string]: any}} props
 */
export function IconButton({ icon, label, onClick, disabled = false, kind = "quiet", class: more, ...rest }) {
  return html`<button type="button" class=${classes("button icon-only", kind, more)} aria-label=${label} title=${label}
      disabled=${disabled} onClick=${onClick} ...${rest}><${Icon} name=${icon} /></button>`;
}

/**
 * A link in a new tab that looks like an icon button; `label` is its accessible name and tooltip.
 * @param {{icon: IconName, label: string, href: string}} props
 */
export const IconLink = ({ icon, label, href }) => html`<a class="button icon-only quiet" href=${href} ...${NEW_TAB}
  aria-label=${label} title=${label}><${Icon} name=${icon} /></a>`;
