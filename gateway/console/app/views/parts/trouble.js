/** Shows the error of a failed request, above the last good data. */

import { ApiError, isAbort, link } from "../../../players/api.js";
import { t } from "../../i18n.js";
import { toast } from "../../toast.js";
import { html, Notice } from "../../ui.js";

/**
 * @param {unknown} error
 * @returns {string}
 */
export function reason(error) {
  if (error instanceof ApiError && error.status === 0) return link.away();
  return error instanceof Error ? error.message : String(error);
}

/** @param {{error: unknown}} props  null: nothing is shown */
export function Trouble({ error }) {
  if (error === null || error === undefined) return null;
  if (error instanceof ApiError && error.status === 0) return null; // the banner above every view says it
  return html`<${Notice} kind="bad" role="alert" title=${t("trouble.title")}>${reason(error)}<//>`;
}

/**
 * Runs an action and shows a message if it fails.
 * @param {() => Promise<unknown>} work
 * @param {string} [done]  message on success
 * @returns {Promise<boolean>} whether it worked
 */
export async function attempt(work, done) {
  try {
    await work();
  } catch (error) {
    if (!isAbort(error)) toast(reason(error), "bad"); // aborted: the session ended
    return false;
  }
  if (done) toast(done, "ok");
  return true;
}
