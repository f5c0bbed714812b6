/** What the operator has set for all pages: title, logo, colour and a text. */

import { h } from "./dom.js";

/** @typedef {{title: string, color: string, text: string, logo: string | null}} Site  logo: its address */

/** @type {Site} */
const NONE = { title: "", color: "", text: "", logo: null };
const ADDRESS = /\bhttps?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]']/g;

/** The site; without its own settings if the gateway does not answer. @type {Promise<Site>} */
export const site = fetch("/_player/site.json").then((reply) => (reply.ok ? reply.json() : NONE), () => NONE);

/** Shows the operator's logo instead of ours. @param {HTMLImageElement} mark @param {Site} found */
export function showLogo(mark, { logo }) {
  if (!logo) return;
  mark.src = logo;
  mark.classList.add("logo");
  mark.removeAttribute("width"); // a logo has its own shape
}

/**
 * A text with its addresses as links. Nothing in it is markup.
 * @param {string} text
 * @returns {(string | HTMLAnchorElement)[]}
 */
export function linked(text) {
  /** @type {(string | HTMLAnchorElement)[]} */
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(ADDRESS)) {
    const address = found[0];
    parts.push(text.slice(at, found.index), h("a", { href: address, rel: "noopener nofollow", target: "_blank" }, address));
    at = found.index + address.length;
  }
  return [...parts, text.slice(at)];
}
