/** One idea: what the API tells of IVS, and which addresses its player takes. */

import { api } from "../../api.js";
import { t } from "../../i18n.js";

/**
 * @typedef {object} IvsChannel
 * @property {string} arn
 * @property {string} name
 * @property {string} ingestEndpoint
 * @property {string} [rtmpUrl]
 * @property {string} [streamKey]   only in the answer that created it
 * @property {string} playbackUrl
 * @property {string} type
 * @property {string} latencyMode
 */

/**
 * Asks the node first: a question to a service that is not set up would be an error in every browser's log.
 * @param {AbortSignal} signal
 * @returns {Promise<string>} why there is no IVS here; "" where there is
 */
export async function available(signal) {
  const { ivs } = await api.get("/status", { signal });
  return ivs === false ? t("ivs.awayText") : "";
}

/** @param {string} url @returns {string} where in the console it plays */
export const playAddress = (url) => `/ivs?${new URLSearchParams({ play: url })}`;

/**
 * The page's policy allows media from IVS and from this gateway, and from nowhere else.
 * @param {string} text
 * @returns {string} what is wrong with it; "" where it can be played
 */
export function playProblem(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return t("ivs.noUrl");
  }
  if (url.protocol !== "https:" || url.username || url.password) return t("ivs.noHttps");
  return url.hostname.endsWith(".live-video.net") ? "" : t("ivs.otherHost");
}

/** @param {IvsChannel} channel @returns {string} what encoders are given as their server */
export const server = ({ rtmpUrl, ingestEndpoint }) => rtmpUrl || (ingestEndpoint ? `rtmps://${ingestEndpoint}:443/app/` : "");
