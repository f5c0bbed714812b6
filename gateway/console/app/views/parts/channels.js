/** The list of channels for choices in other views. */

import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";

/**
 * The used fields of a channel.
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
/** The list of channels by pages. */
export const PAGES = "/videostreams";
const EVERY = 10_000; // ms; channels change seldom

/** @returns {import("../../poll.js").PolledSignal<Channel[]>} */
export const useChannels = () => usePoll(CHANNELS, EVERY);

/** Reads the channels again after a change. */
export function refreshChannels() {
  refresh(CHANNELS);
  refresh(PAGES);
}

/**
 * @param {{id: string, videoname?: string}} channel
 * @returns {string} its display name
 */
export const nameOf = ({ id, videoname = "" }) => videoname.trim() || t("channel.unnamed", { id: id.slice(0, 8) });

/**
 * @param {readonly {id: string, videoname?: string}[]} channels
 * @returns {{value: string, label: string}[]}  for a Select, by name; repeated names also show the id
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
