/** A choice of one of several values, which are all visible. */

import { useRef } from "preact/hooks";

import { html, uniqueId } from "../html.js";

/**
 * @param {{label: any, value: string, options: readonly {value: string, label: any}[], onChange: (value: string) => void}} props
 */
export function Radios({ label, value, options, onChange }) {
  const name = useRef("");
  if (!name.current) name.current = uniqueId("radios");
  return html`<fieldset class="radios"><legend>${label}</legend>
    ${options.map((option) => html`<label key=${option.value}>
      <input type="radio" name=${name.current} value=${option.value} checked=${option.value === value}
        onChange=${() => onChange(option.value)} />
      <span>${option.label}</span>
    </label>`)}
  </fieldset>`;
}
