/** The address to push to over SRT, in the parts that OBS and apps of phones ask for. */

import { t } from "../../i18n.js";
import { html } from "../../ui.js";

/**
 * @param {{channel: import("../../channel.js").Channel, field: (label: string, value: string, hint?: string) => unknown}} props
 *   field: shows a value to copy, with a hidden or visible key
 */
export function Srt({ channel, field }) {
  const url = channel.pushUrls?.["srt"];
  if (!url) return null;
  const [server = "", query = ""] = url.split(/[?](.*)/);
  return html`<details class="for-players multitrack"><summary>${t("srt.title")}</summary>
    <div class="stack">
      <p class="hint">${t("srt.text")}</p>
      ${field(t("srt.url"), url, t("srt.url.hint"))}
      ${field(t("srt.server"), server, t("srt.server.hint"))}
      ${field(t("srt.id"), query.replace("streamid=", "").replace(/&.*/, ""))}
      ${field(t("srt.ffmpeg"), `ffmpeg -re -i input.mp4 -c copy -f mpegts "${url}"`)}
    </div>
  </details>`;
}
