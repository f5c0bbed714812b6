/** The last refused push of a channel, with the reason and what to do: most encoders show no reason. */

import { t } from "../../i18n.js";
import { administers } from "../../session.js";
import { html, LinkButton, Notice } from "../../ui.js";
import { refusalText } from "../parts/events.js";

const SHOWN = 3_600_000; // ms for which a refusal is shown

/**
 * @param {{channel: import("../../channel.js").Channel, session: import("../../channel.js").Session | null}} props
 */
export function Refusals({ channel, session }) {
  if (session === null) return null;
  // While a push is accepted, the refusals before it are solved.
  const since = Math.max(Date.now() - SHOWN, session.since ? Date.parse(session.since) : 0);
  const recent = (session.refusals ?? []).filter((refusal) => Date.parse(refusal.at) > since);
  const [last] = recent;
  if (!last) return null;
  // An expired key of a channel with a later expiry is only an old key.
  const advice = last.reason === "expired" && !channel.expired ? "revoked" : last.reason;
  return html`<div class="bar"><${Notice} kind="warn" title=${refusalText(last)} actions=${administers.value && recent.length > 1
    && html`<${LinkButton} small href=${`#/events?channel=${encodeURIComponent(session.id)}&type=publish.refused`}>
      ${t("refusal.count", { n: recent.length })}<//>`}>
    ${t(`refusal.do.${advice}`)}<//></div>`;
}
