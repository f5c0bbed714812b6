/** Small status elements: badges, chips, notices, and placeholders for loading and empty views. */

import { classes, html } from "../html.js";
import { t } from "../i18n.js";
import { Icon } from "./icon.js";

/** @typedef {"live" | "ok" | "warn" | "bad" | "info" | "idle"} Tone */

/** @param {{kind?: Tone, dot?: boolean, children?: any, title?: string}} props */
export function Badge({ kind = "idle", dot = false, children, title }) {
  return html`<span class=${`badge ${kind}`} title=${title}>${dot && html`<i class="dot" aria-hidden="true"></i>`}${children}</span>`;
}

/** @param {{children?: any, kind?: Tone, title?: string}} props */
export function Chip({ children, kind, title }) {
  return html`<span class=${classes("chip", kind)} title=${title}>${children}</span>`;
}

/**
 * An important sentence in the page. `role`: "alert" if it appeared without an action of the user.
 * @param {{kind?: Tone, title?: any, children?: any, role?: string, actions?: any}} props
 */
export function Notice({ kind = "info", title, children, role, actions }) {
  return html`<div class=${`notice ${kind}`} role=${role}>
    <${Icon} name=${kind === "info" || kind === "idle" ? "info" : kind === "ok" || kind === "live" ? "check" : "warning"} />
    <div class="grow">${title && html`<strong>${title}</strong>`}${children && html`<div>${children}</div>`}</div>
    ${actions}
  </div>`;
}

/** @param {{icon?: import("./icon.js").IconName, title: any, text?: any, children?: any}} props  children: possible actions */
export function Empty({ icon = "info", title, text, children }) {
  return html`<div class="empty"><${Icon} name=${icon} size=${32} /><h2>${title}</h2>${text && html`<p>${text}</p>`}${children}</div>`;
}

/** @param {{label?: string}} props */
export function Spinner({ label }) {
  return html`<span class="spinner" role="status"><i aria-hidden="true"></i>
    <span class="visually-hidden">${label ?? t("loading")}</span></span>`;
}

/**
 * Grey bars in the place of content that is loading.
 * @param {{lines?: number, height?: string}} props  height: of each line, CSS
 */
export function Skeleton({ lines = 3, height }) {
  return html`<div class="skeleton" role="status"><span class="visually-hidden">${t("loading")}</span>
    ${Array.from({ length: lines }, (_, i) => html`<i key=${i} aria-hidden="true" style=${height ? { height } : undefined}></i>`)}</div>`;
}
