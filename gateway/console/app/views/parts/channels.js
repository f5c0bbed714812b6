/** One idea: the channels that other views let one choose from. */

import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";

/**
 * Of a channel, what is asked for here; there is more.
 * @typedef {object} Channel
 * @property {string} id
 * @property {string} [videoname]
 * @property {string} obsServer
 * @property {string} pushUrl
 * @property {string} [wsUrl]
 * @property {Record<string, string>} playUrls
 * @property {string | string[] | null} [relayURL]
 * @property {boolean | string} [isRelay]
 */

export const CHANNELS = "/videostream";
const EVERY = 10_000; // ms; channels come and go slowly

/** @returns {import("../../poll.js").PolledSignal<Channel[]>} */
export const useChannels = () => usePoll(CHANNELS, EVERY);

/**
 * @param {{id: string, videoname?: string}} channel
 * @returns {string} what people call it
 */
export const nameOf = ({ id, videoname = "" }) => videoname.trim() || t("channel.unnamed", { id: id.slice(0, 8) });

/**
 * @param {readonly Channel[]} channels
 * @returns {{value: string, label: string}[]}  for a Select, by name; names that repeat tell their id too
 */
export function choices(channels) {
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const channel of channels) times.set(nameOf(channel), (times.get(nameOf(channel)) ?? 0) + 1);
  return channels.map((channel) => {
    const name = nameOf(channel);
    return { value: channel.id, label: (times.get(name) ?? 0) > 1 ? `${name} (${channel.id.slice(0, 8)})` : name };
  }).sort((a, b) => a.label.localeCompare(b.label));
}
