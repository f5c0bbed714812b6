/** The number of viewers of the broadcast, as far as this page may know it. */

import { api } from "../players/api.js";

/** @typedef {import("./target.js").Target} Target */

/**
 * @param {Target} target
 * @returns {Promise<number | null>}  null: not known. With a key only, the gateway tells the viewers of public channels.
 */
export async function countViewers({ id, ours, media }) {
  if (ours) {
    /** @type {{viewers: Record<string, number>} | null} */
    const session = await api.get(`/videostream/${encodeURIComponent(id)}/session`, { quiet: true }).catch(() => null);
    return session && Object.values(session.viewers).reduce((sum, n) => sum + n, 0);
  }
  const [any] = Object.values(media);
  return any ? (await statusOf(any))?.viewers ?? null : null;
}

/**
 * @param {string} url  of any media of the channel
 * @returns {Promise<import("../players/types.js").Status | null>}  null: it is refused, or there is no answer
 */
export async function statusOf(url) {
  const reply = await fetch(new URL("status.json", url), { cache: "no-store" }).catch(() => null);
  return reply?.ok ? await reply.json().catch(() => null) : null; // a page of a proxy is no answer
}
