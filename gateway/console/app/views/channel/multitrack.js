/** The configuration of OBS Multitrack Video: OBS encodes the renditions itself and sends them together. */

import { useState } from "preact/hooks";

import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { CopyField, html, Notice, Select } from "../../ui.js";

const SIZES = ["3840x2160", "2560x1440", "1920x1080", "1280x720", "1080x1920"];
const RATES = ["30", "60"];
/** The encoders that the gateway knows, with their names for users. */
const ENCODERS = { x264: "x264", nvenc: "NVIDIA NVENC", amf: "AMD AMF", qsv: "Intel QuickSync", videotoolbox: "Apple VideoToolbox" };
const REFRESH = 60_000; // ms; a new key changes the configuration
const KEY = /(sign=)[^&"\s]*/g;

/**
 * @param {{channel: import("../../channel.js").Channel, shown: boolean}} props  shown: whether stream keys are visible
 */
export function Multitrack({ channel, shown }) {
  const [open, setOpen] = useState(false);
  return html`<details class="for-players multitrack" onToggle=${(/** @type {Event} */ event) => setOpen(/** @type {HTMLDetailsElement} */ (event.target).open)}>
    <summary>${t("multitrack.title")}</summary>
    ${open && html`<${Configuration} channel=${channel} shown=${shown} />`}
  </details>`;
}

/** @param {{channel: import("../../channel.js").Channel, shown: boolean}} props */
function Configuration({ channel, shown }) {
  const [size, setSize] = useState("1920x1080");
  const [fps, setFps] = useState("30");
  const [encoder, setEncoder] = useState("x264");
  const query = new URLSearchParams({ size, fps, encoder, of: channel.key });
  const found = usePoll(`/videostream/${encodeURIComponent(channel.id)}/obs-multitrack?${query}`, REFRESH).value;
  const value = found.data ? JSON.stringify(found.data) : "";
  const same = (/** @type {string} */ text) => ({ value: text, label: text });
  return html`<div class="stack">
    <p class="hint">${t("multitrack.text")}</p>
    <div class="columns tight">
      <${Select} label=${t("multitrack.size")} value=${size} options=${SIZES.map(same)} onChange=${setSize} />
      <${Select} label=${t("multitrack.fps")} value=${fps} options=${RATES.map(same)} onChange=${setFps} />
      <${Select} label=${t("multitrack.encoder")} value=${encoder} onChange=${setEncoder}
        options=${Object.entries(ENCODERS).map(([id, label]) => ({ value: id, label }))} />
    </div>
    ${found.error && html`<${Notice} kind="warn">${found.error.message}<//>`}
    ${value && html`<${CopyField} label=${t("multitrack.json")} value=${value} shown=${shown ? value : value.replace(KEY, "$1••••••••")} />`}
  </div>`;
}
