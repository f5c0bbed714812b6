/** The addresses to push to over WebRTC, and what OBS asks for. */

import { t } from "../../i18n.js";
import { html } from "../../ui.js";

/**
 * @param {{channel: import("../../channel.js").Channel, field: (label: string, value: string, hint?: string) => unknown}} props
 *   field: shows a value to copy, with a hidden or visible key
 */
export function Whip({ channel, field }) {
  if (!channel["whipUrl"]) return null;
  return html`<details class="for-players multitrack"><summary>${t("whip.title")}</summary>
    <div class="stack">
      <p class="hint">${t("whip.text")}</p>
      ${field(t("whip.server"), channel["whipServer"])}
      ${field(t("whip.token"), channel.obsKey)}
      ${field(t("whip.url"), channel["whipUrl"], t("whip.url.hint"))}
    </div>
  </details>`;
}
