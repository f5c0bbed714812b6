/** The engine of the shortest delay: WebCodecs over WS-FLV. Where that is not possible, mpegts.js plays in its place. */

import { flvEngine, flvUnsupported, loadLibrary } from "./flv-engine.js";
import { InstantPlayer, unfit } from "./instant-player.js";
import { pending } from "./media.js";
import { AUTO } from "./quality.js";
import { t } from "./words.js";

/** @typedef {import("./instant-player.js").Unfit} Unfit */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").OpenEngine} OpenEngine */
/** @typedef {import("./words.js").Word} Word */

/** @type {Record<Unfit, Word>} */
const REASONS = {
  insecure: "instant.insecure", missing: "instant.missing", codec: "instant.codec", "sound only": "instant.sound", decoder: "instant.decoder",
};

/** @returns {boolean} whether this browser can play with WebCodecs; the codec is known only later */
export const supported = () => unfit() === null;

/** @type {OpenEngine} */
export function instantEngine(video, url, now, live) {
  const { outcome, settle } = pending();
  /** @type {InstantPlayer | null} */
  let player = null;
  /** @type {Engine | null} */
  let other = null;
  let open = true;
  let wanted = AUTO;
  let instead = ""; // the reason why mpegts.js plays

  /** @param {Unfit} reason @param {string} detail */
  async function fallBack(reason, detail) {
    player = null;
    instead = t(REASONS[reason], { detail });
    try {
      await loadLibrary();
    } catch {
      return settle("lost", "mpegts.js was not loaded");
    }
    if (!open) return;
    const why = flvUnsupported();
    if (why !== null) return settle("codec", t("detail.missing", { feature: why }));
    other = flvEngine(video, url, now, live);
    other.quality?.(wanted);
    void other.outcome.then((end) => settle(end.why, end.detail));
  }

  const reason = unfit();
  if (reason !== null) void fallBack(reason, "");
  else {
    player = new InstantPlayer(video, url.replace(/^http/, "ws"), now, live, {
      ended: settle, unfit: (why, detail) => void fallBack(why, detail),
    });
  }
  return {
    outcome,
    delay: () => other ? other.delay() : player?.delay ?? null,
    get toLive() { return other?.toLive; }, // the player with WebCodecs is always live
    qualities: () => (other ?? player)?.qualities?.() ?? [],
    quality(id) {
      wanted = id;
      (other ?? player)?.quality?.(id);
    },
    shown: () => (other ?? player)?.shown?.() ?? null,
    slow: () => (other ?? player)?.slow?.() ?? "no",
    times: () => player?.times ?? null,
    dropped: () => player?.dropped ?? null,
    decoder: () => player ? player.codecs && `WebCodecs, ${player.codecs}` : `mpegts.js: ${instead}`,
    close() {
      if (!open) return;
      open = false;
      player?.close();
      other?.close();
    },
  };
}
