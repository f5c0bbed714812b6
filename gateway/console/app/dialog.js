/** Dialogs with questions and forms. The `<dialog>` element keeps the focus inside and returns it at the end. */

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { classes, html, uniqueId } from "./html.js";
import { t } from "./i18n.js";
import { Button, IconButton } from "./kit/button.js";

/**
 * A dialog that is open while it is rendered. `onClose`: called at Escape, the cross, or a press outside of a dialog
 * without form; the caller then stops rendering it. With `onSubmit` it is a form, with `footer` inside.
 * @param {{title: any, onClose: () => void, children?: any, footer?: any, onSubmit?: () => void, wide?: boolean,
 *   alert?: boolean, class?: string}} props
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
      // `close` returns the focus, but not if the element was removed from the page before.
      if (before instanceof HTMLElement && before.isConnected && document.activeElement === document.body) before.focus();
    };
  }, []);
  // A press outside does not close a form, so that typed text is not lost.
  const beside = (/** @type {MouseEvent} */ event) => { if (!onSubmit && event.target === element.current) onClose(); };
  // The second click of a double click does not send the form again, or close what the first one has shown.
  const once = (/** @type {MouseEvent} */ event) => {
    if (event.detail > 1 && event.target instanceof Element && event.target.closest("[type=submit]")) event.preventDefault();
  };
  const inside = html`
    <div class="dialog-head"><h2 id=${id.current}>${title}</h2><${IconButton} icon="close" label=${t("close")} onClick=${onClose} /></div>
    <div class="dialog-body">${children}</div>
    ${footer && html`<div class="dialog-foot">${footer}</div>`}`;
  return html`<dialog ref=${element} class=${classes("dialog", wide && "wide", more)} role=${alert ? "alertdialog" : undefined}
    aria-labelledby=${id.current}
      onCancel=${(/** @type {Event} */ event) => { event.preventDefault(); onClose(); }} onPointerDown=${beside}>
    ${onSubmit
      ? html`<form class="dialog-form" novalidate onClick=${once}
        onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); onSubmit(); }}>${inside}</form>`
      : html`<div class="dialog-form">${inside}</div>`}
  </dialog>`;
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {any} [text]
 * @property {any} [more]          content below the text, such as a choice
 * @property {string} confirm      text of the button that confirms
 * @property {string} [cancel]
 * @property {boolean} [danger]    the action deletes something
 * @property {() => Promise<unknown>} [run]  runs while the dialog waits; the dialog shows its error
 */

/** @type {import("@preact/signals").Signal<(Question & {done: (yes: boolean) => void}) | null>} */
const question = signal(null);

/**
 * Shows the question. Resolves to true if the user agreed and `run`, if given, succeeded.
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

/** The place of questions; used once on the page. */
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
      <span ref=${cancel} class="contents"><${Button} onClick=${() => asked.done(false)}
        disabled=${busy}>${asked.cancel ?? t("cancel")}<//></span>
      <${Button} kind=${asked.danger ? "danger" : "primary"} busy=${busy} onClick=${yes}>${asked.confirm}<//>`}>
    ${asked.text && html`<p>${asked.text}</p>`}
    ${asked.more}
    ${error && html`<p class="error" role="alert">${error}</p>`}
  <//>`;
}
