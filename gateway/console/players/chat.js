/** The slot beside the player for a chat of another service. It is empty unless the channel has an address for it. */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { EMBEDDED } from "./status.js";
import { t } from "./words.js";

// Scripts, forms and windows of its own; it cannot navigate this page. Its own origin keeps it apart from this one.
const ALLOWED = ["allow-scripts", "allow-forms", "allow-popups", "allow-popups-to-escape-sandbox"];

/** @returns {Node[]} the frame with the chat, if the server has named one in the page; none in a page of others */
export function chat() {
  const address = /** @type {HTMLMetaElement | null} */ (document.querySelector('meta[name="millrace-chat"]'))?.content;
  if (!address || EMBEDDED) return [];
  // With the origin of this page, it could remove its own sandbox.
  const own = new URL(address).origin === location.origin;
  const frame = h("iframe", {
    class: "chat", id: "chat", src: address, loading: "lazy", referrerpolicy: "strict-origin",
    sandbox: [...ALLOWED, ...(own ? [] : ["allow-same-origin"])].join(" "),
  });
  document.documentElement.dataset.chat = "";
  speak(() => { frame.title = t("chat.title"); });
  return [frame];
}
