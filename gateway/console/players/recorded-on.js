/** Says when a recording was made. */

import { languageTag } from "./language.js";
import { t } from "./words.js";

/** @type {Intl.DateTimeFormatOptions} */
const LONG = { dateStyle: "long", timeStyle: "short" };
/** @type {Intl.DateTimeFormatOptions} */
export const SHORT = { dateStyle: "medium" };

/** @param {number} date  of its start, ms since 1970 @param {Intl.DateTimeFormatOptions} [form] @returns {string} */
export function recordedOn(date, form = LONG) {
  return t("replay.recorded", { date: new Date(date).toLocaleString(languageTag(), form) });
}
