/** Undoes deletions: what was deleted is in the bin for some hours. */

import { api } from "../../../players/api.js";
import { t } from "../../i18n.js";
import { toast } from "../../toast.js";
import { attempt } from "./trouble.js";

/** @typedef {{id: string, kind: string, key: string, title: string | null, channel: string | null, start: string | null,
 *   deleted: string, until: string, size: number}} BinItem */

export const BIN = "/bin";

/** Restores one, and says what of a channel could not be restored. @param {BinItem} item */
export async function restore(item) {
  const { text } = await api.post(`${BIN}/${encodeURIComponent(item.id)}/restore`, {});
  if (text) toast(text, "warn");
}

/**
 * Says that something was deleted, with a button to undo it.
 * @param {string} text
 * @param {readonly string[]} keys  of the recordings or films, or the id of a channel
 * @param {() => void} onRestored
 */
export function toastDeleted(text, keys, onRestored) {
  const undo = async () => {
    const wanted = new Set(keys);
    const done = await attempt(async () => {
      /** @type {BinItem[]} */
      const items = await api.get(BIN);
      const found = items.filter((item) => wanted.has(item.key));
      if (found.length === 0) throw new Error(t("bin.notThere"));
      for (const item of found) await restore(item);
    }, t("bin.restored"));
    if (done) onRestored();
  };
  toast(text, "ok", { label: t("bin.undo"), run: () => void undo() });
}
