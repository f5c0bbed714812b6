/** The layout of views: a head with a title and actions, cards, tabs, lists of facts. */

import { useEffect, useRef } from "preact/hooks";

import { classes, html, uniqueId } from "../html.js";
import { arrive } from "../router.js";
import { Icon } from "./icon.js";

/**
 * The head of a view. `back`: link to the parent view.
 * @param {{title: any, badge?: any, text?: any, back?: {href: string, label: string}, children?: any}} props  children: actions
 */
export function PageHead({ title, badge, text, back, children }) {
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    document.title = `${heading.current?.textContent} · Millrace`;
    // After a link the heading gets the focus: the keyboard continues there, and screen readers announce it.
    if (arrive() && !document.querySelector("dialog[open]")) heading.current?.focus({ preventScroll: true });
  }, [title]);
  return html`<header class="page-head">
    ${back && html`<a class="back" href=${back.href}><${Icon} name="left" size=${16} />${back.label}</a>`}
    <div class="line">
      <div class="titles"><h1 tabindex="-1" ref=${heading}>${title}</h1>${badge}</div>
      ${children && html`<div class="actions">${children}</div>`}
    </div>
    ${text && html`<p class="text">${text}</p>`}
  </header>`;
}

/**
 * A box with a title, which is also its region name.
 * @param {{title?: any, actions?: any, children?: any, class?: string, id?: string}} props
 */
export function Card({ title, actions, children, class: more, id }) {
  const label = useRef("");
  if (!label.current) label.current = uniqueId("card");
  return html`<section class=${classes("card", more)} id=${id} aria-labelledby=${title ? label.current : undefined}>
    ${title && html`<div class="card-head"><h2 id=${label.current}>${title}</h2>
      ${actions && html`<div class="actions">${actions}</div>`}</div>`}
    ${children}
  </section>`;
}

/**
 * Tabs; the caller shows what belongs to `value` below, in an element with id `panel`.
 * @param {{label: string, value: string, onChange: (value: string) => void, panel?: string,
 *   tabs: {value: string, label: any, disabled?: boolean, title?: string}[]}} props
 */
export function Tabs({ label, value, onChange, panel, tabs }) {
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -tabs.length, End: tabs.length }[event.key];
    const usable = tabs.filter((tab) => !tab.disabled);
    const at = usable.findIndex((tab) => tab.value === value);
    if (step === undefined || at < 0) return;
    event.preventDefault();
    const to = usable[Math.abs(step) > 1 ? (step < 0 ? 0 : usable.length - 1) : (at + step + usable.length) % usable.length];
    if (!to) return;
    onChange(to.value);
    const buttons = list.current?.querySelectorAll("button") ?? [];
    for (const button of buttons) if (button.dataset["value"] === to.value) button.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
    ${tabs.map((tab) => html`<button type="button" role="tab" key=${tab.value} data-value=${tab.value} disabled=${tab.disabled}
      title=${tab.title}
      aria-selected=${tab.value === value ? "true" : "false"} aria-controls=${panel} tabindex=${tab.value === value ? 0 : -1}
      onClick=${() => onChange(tab.value)}>${tab.label}</button>`)}
  </div>`;
}

/**
 * Names and values, side by side if there is enough space.
 * @param {{facts: {label: any, value: any, title?: string}[]}} props
 */
export function Facts({ facts }) {
  return html`<dl class="facts">${facts.map((fact, i) => html`<div key=${i} title=${fact.title}><dt>${fact.label}</dt>
    <dd>${fact.value}</dd></div>`)}</dl>`;
}
