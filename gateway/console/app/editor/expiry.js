/** The control of a channel's expiry: a moment, or never. */

import { NEVER, toLocal } from "../channel.js";
import { t } from "../i18n.js";
import { Field, html, Switch } from "../ui.js";

const DAYS = 365;

/** @returns {string} in a year, on the full hour */
export function inAYear() {
  const date = new Date(Date.now() + DAYS * 86_400_000);
  date.setMinutes(0, 0, 0);
  return toLocal(date);
}

/**
 * @param {{value: string, onInput: (value: string) => void, label: string, hint?: string, error?: string | undefined}} props
 *   value: of an `<input type="datetime-local">`, or NEVER
 */
export function ExpiryField({ value, onInput, label, hint, error }) {
  const never = value === NEVER;
  return html`<${Field} label=${label} name="outdate" type="datetime-local" value=${never ? "" : value} onInput=${onInput}
      required=${!never} disabled=${never} error=${error} hint=${hint} />
    <${Switch} label=${t("expiry.never")} checked=${never}
      onChange=${(/** @type {boolean} */ on) => onInput(on ? NEVER : inAYear())} />`;
}
