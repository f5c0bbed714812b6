/** The IVS channels of the API, and the addresses that its player accepts. */

import { api } from "../../../players/api.js";
import { t } from "../../i18n.js";

/**
 * @typedef {object} IvsChannel
 * @property {string} arn
 * @property {string} name
 * @property {string} ingestEndpoint
 * @property {string} [rtmpUrl]
 * @property {string} [streamKey]   only in the answer to its creation
 * @property {string} playbackUrl
 * @property {string} playerUrl     a public page that plays it
 * @property {string} type
 * @property {string} latencyMode
 */

/**
 * Asks the node first, because a request to a missing service would be an error in the browser's log.
 * @param {AbortSignal} signal
 * @returns {Promise<string>} reason why IVS is not available; "" if it is
 */
export async function available(signal) {
  const { ivs } = await api.get("/status", { signal });
  return ivs === false ? t("ivs.awayText") : "";
}

/** @param {string} url @returns {string} link to the console's player for it */
export const playAddress = (url) => `/ivs?${new URLSearchParams({ play: url })}`;

/**
 * Checks an address. The page's policy allows media only from IVS and from this gateway.
 * @param {string} text
 * @returns {string} the problem; "" if it can be played
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

/** @param {IvsChannel} channel @returns {string} the server address for encoders */
export const server = ({ rtmpUrl, ingestEndpoint }) => rtmpUrl || (ingestEndpoint ? `rtmps://${ingestEndpoint}:443/app/` : "");
