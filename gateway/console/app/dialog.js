/** One idea: questions and forms above the page. The browser's own dialog keeps the focus inside and gives it back. */

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { classes, html, uniqueId } from "./html.js";
import { t } from "./i18n.js";
import { Button, IconButton } from "./kit/button.js";

/**
 * A dialog for as long as it is rendered. `onClose`: Escape, the cross, or a press beside what is no form; whoever
 * renders it takes it away then. Give it `onSubmit` and it is a form, with `footer` inside.
 * @param {{title: any, onClose: () => void, children?: any, footer?: any, onSubmit?: () => void, wide?: boolean, alert?: boolean, class?: string}} props
 */
export function Dialog({ title, onClose, children, footer, onSubmit, wide = false, alert = false, class: more }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useRef("");
  if (!id.current) id.current = uniqueId("dialog");
  useLayoutEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // Closing gives the focus back by itself, except where the element was taken out of the page first.
      if (before instanceof HTMLElement && before.isConnected && document.activeElement === document.body) before.focus();
    };
  }, []);
  // What was typed into a form is not lost by a slip of the pointer.
  const beside = (/** @type {MouseEvent} */ event) => { if (!onSubmit && event.target === element.current) onClose(); };
  const inside = html`
    <div class="dialog-head"><h2 id=${id.current}>${title}</h2><${IconButton} icon="close" label=${t("close")} onClick=${onClose} /></div>
    <div class="dialog-body">${children}</div>
    ${footer && html`<div class="dialog-foot">${footer}</div>`}`;
  return html`<dialog ref=${element} class=${classes("dialog", wide && "wide", more)} role=${alert ? "alertdialog" : undefined} aria-labelledby=${id.current}
      onCancel=${(/** @type {Event} */ event) => { event.preventDefault(); onClose(); }} onPointerDown=${beside}>
    ${onSubmit
      ? html`<form class="dialog-form" novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); onSubmit(); }}>${inside}</form>`
      : html`<div class="dialog-form">${inside}</div>`}
  </dialog>`;
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {any} [text]
 * @property {string} confirm      the words on the button that does it
 * @property {string} [cancel]
 * @property {boolean} [danger]    it destroys something
 * @property {() => Promise<unknown>} [run]  done while the dialog waits; what it throws is shown in it
 */

/** @type {import("@preact/signals").Signal<(Question & {done: (yes: boolean) => void}) | null>} */
const question = signal(null);

/**
 * Asks; the answer is whether the person agreed, and, where there is `run`, that it worked.
 * @param {Question} asked
 * @returns {Promise<boolean>}
 */
export function ask(asked) {
  question.value?.done(false);
  return new Promise((resolve) => {
    question.value = {
      ...asked,
      done(yes) {
        question.value = null;
        resolve(yes);
      },
    };
  });
}

/** Where questions come up; once on the page. */
export function Questions() {
  const asked = question.value;
  return asked && html`<${Asked} key=${asked.title} asked=${asked} />`;
}

/** @param {{asked: Question & {done: (yes: boolean) => void}}} props */
function Asked({ asked }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const cancel = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => { cancel.current?.querySelector("button")?.focus(); }, []);
  const yes = async () => {
    if (!asked.run) return asked.done(true);
    setBusy(true);
    setError("");
    try {
      await asked.run();
      asked.done(true);
    } catch (problem) {
      setBusy(false);
      setError(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return html`<${Dialog} alert title=${asked.title} onClose=${() => { if (!busy) asked.done(false); }} footer=${html`
      <span ref=${cancel} class="contents"><${Button} onClick=${() => asked.done(false)} disabled=${busy}>${asked.cancel ?? t("cancel")}<//></span>
      <${Button} kind=${asked.danger ? "danger" : "primary"} busy=${busy} onClick=${yes}>${asked.confirm}<//>`}>
    ${asked.text && html`<p>${asked.text}</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
  <//>`;
}
