/** A switch of a channel: it shows what the user wants until the gateway reports the change. */

import { useEffect, useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { isOn } from "../../channel.js";
import { html, Switch } from "../../ui.js";
import { attempt } from "../parts/trouble.js";

/** @typedef {import("../../channel.js").Channel} Channel */

const SEEN_WITHIN = 6000; // ms after a change in which the wanted state is shown; then the gateway's

/**
 * A request that runs during the change may answer with the state before it. So the wanted state stays until `real` is equal.
 * @param {boolean} real  what the gateway reports
 * @param {unknown[]} answers  the answers that `real` comes from: it is compared at each new one
 * @returns {{on: boolean, busy: boolean, change: (on: boolean, work: () => Promise<boolean>) => Promise<void>}}
 *   on: what is shown. change: does the work, which returns whether it succeeded
 */
export function useWanted(real, answers) {
  const [wanted, setWanted] = useState(/** @type {{on: boolean, busy: boolean, at: number} | null} */ (null));
  useEffect(() => setWanted((now) => (now && !now.busy && (now.on === real || Date.now() - now.at >= SEEN_WITHIN) ? null : now)),
    answers);
  const change = async (/** @type {boolean} */ on, /** @type {() => Promise<boolean>} */ work) => {
    setWanted({ on, busy: true, at: Date.now() });
    setWanted(await work() ? { on, busy: false, at: Date.now() } : null);
  };
  return { on: wanted?.on ?? real, busy: wanted?.busy ?? false, change };
}

/**
 * Sets a field of the channel at once.
 * @param {{channel: Channel, field: string, label: string, hint: string, onChanged: () => void}} props
 */
export function FieldSwitch({ channel, field, label, hint, onChanged }) {
  const { on, busy, change } = useWanted(isOn(channel[field]), [channel]);
  const set = async (/** @type {boolean} */ to) => {
    await change(to, () => attempt(() => api.put(`/videostream/${encodeURIComponent(channel.id)}`, { [field]: to })));
    onChanged();
  };
  return html`<${Switch} label=${label} hint=${hint} checked=${on} busy=${busy} onChange=${set} />`;
}
