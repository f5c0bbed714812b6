/** Form fields: a label, the control, a hint, and the error of the server or the form. */

import { useRef } from "preact/hooks";

import { classes, html, uniqueId } from "../html.js";

/**
 * @param {string} prefix
 * @returns {string} the same id at every rendering of this component
 */
function useId(prefix) {
  const id = useRef("");
  if (!id.current) id.current = uniqueId(prefix);
  return id.current;
}

/**
 * Returns the attributes that connect a control to its hint and its error.
 * @param {string} id @param {any} hint @param {any} error
 */
const described = (id, hint, error) => ({
  "aria-describedby": [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined,
  "aria-invalid": error ? "true" : undefined,
});

/** @param {{id: string, hint?: any, error?: any}} props */
const Notes = ({ id, hint, error }) => [
  hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`,
  error && html`<p class="error" id=${`${id}-error`} role="alert">${error}</p>`,
];

/**
 * One line of text, a number, a date … `onInput` gets the text while the user types. `after`: shown at the end inside the
 * box, such as a unit or a button. `rows`: several lines.
 * @param {{label: any, value: string, onInput?: (value: string) => void, type?: string, name?: string, hint?: any, error?: any,
 *   required?: boolean, disabled?: boolean, after?: any, rows?: number, hideLabel?: boolean, class?: string, [rest: string]: any}} props
 */
export function Field({ label, value, onInput, type = "text", name, hint, error, required = false, disabled = false, after, rows,
  hideLabel = false, class: more, ...rest }) {
  const id = useId("field");
  const shared = {
    id, name, required, disabled, value, ...described(id, hint, error), ...rest,
    onInput: (/** @type {Event} */ event) => onInput?.(/** @type {HTMLInputElement} */ (event.target).value),
  };
  return html`<div class=${classes("field", error && "wrong", more)}>
    <label for=${id} class=${hideLabel ? "visually-hidden" : ""}>${label}
      ${required && html`<span class="required" aria-hidden="true"> *</span>`}</label>
    <div class="box">
      ${rows ? html`<textarea rows=${rows} ...${shared}></textarea>` : html`<input type=${type} ...${shared} />`}
      ${after && html`<span class="after">${after}</span>`}
    </div>
    <${Notes} id=${id} hint=${hint} error=${error} />
  </div>`;
}

/**
 * A choice of one of several values.
 * @param {{label: any, value: string, options: {value: string, label: string, disabled?: boolean}[], onChange?: (value: string) => void, name?: string,
 *   hint?: any, error?: any, disabled?: boolean, hideLabel?: boolean, class?: string, [rest: string]: any}} props
 */
export function Select({ label, value, options, onChange, name, hint, error, disabled = false, hideLabel = false, class: more, ...rest }) {
  const id = useId("select");
  return html`<div class=${classes("field", error && "wrong", more)}>
    <label for=${id} class=${hideLabel ? "visually-hidden" : ""}>${label}</label>
    <div class="box">
      <select id=${id} name=${name} disabled=${disabled} value=${value} ...${described(id, hint, error)} ...${rest}
          onChange=${(/** @type {Event} */ event) => onChange?.(/** @type {HTMLSelectElement} */ (event.target).value)}>
        ${options.map((option) => html`<option value=${option.value} selected=${option.value === value} disabled=${option.disabled}>${option.label}</option>`)}
      </select>
    </div>
    <${Notes} id=${id} hint=${hint} error=${error} />
  </div>`;
}

/**
 * A switch that acts at once. `busy`: the change is running and the switch is locked. `note`: text at its right.
 * @param {{label: any, checked: boolean, onChange?: (checked: boolean, box: HTMLInputElement) => void, name?: string, hint?: any, error?: any, note?: any,
 *   disabled?: boolean, busy?: boolean, class?: string, [rest: string]: any}} props
 */
export function Switch({ label, checked, onChange, name, hint, error, note, disabled = false, busy = false, class: more, ...rest }) {
  const id = useId("switch");
  return html`<div class=${classes("switch", error && "wrong", more)}>
    <div class="line">
      <input type="checkbox" role="switch" id=${id} name=${name} checked=${checked} disabled=${disabled}
        aria-busy=${busy ? "true" : undefined} ...${described(id, hint, error)} ...${rest}
        onClick=${(/** @type {Event} */ event) => { if (busy) event.preventDefault(); }}
        onChange=${(/** @type {Event} */ event) => {
          const box = /** @type {HTMLInputElement} */ (event.target);
          onChange?.(box.checked, box);
        }} />
      <label for=${id}>${label}</label>
      ${note && html`<span class="note">${note}</span>`}
    </div>
    <${Notes} id=${id} hint=${hint} error=${error} />
  </div>`;
}
