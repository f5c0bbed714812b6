/** The small pictures of a film: loads their list, and draws them from one JPEG sheet. */

import { h } from "./dom.js";
import { neighbour } from "./status.js";
import { parse } from "./webvtt.js";

/** @typedef {import("./webvtt.js").Preview} Preview */

const MAX_BYTES = 200_000; // of the list; a longer one is not Millrace's

/**
 * @param {string} url  of the list
 * @returns {Promise<Preview[]>} in order; empty if they cannot be loaded
 */
export async function loadPreviews(url) {
  try {
    const reply = await fetch(url);
    const text = reply.ok ? await reply.text() : "";
    return text.length > MAX_BYTES ? [] : parse(text);
  } catch {
    return []; // no connection; the player works without them
  }
}

/**
 * Returns an element of the preview's size. `show` draws a preview into it.
 * @returns {{element: HTMLElement, show: (preview: Preview) => void}}
 */
export function picture() {
  const element = h("span", { class: "preview-picture", "aria-hidden": "true" });
  return {
    element,
    show({ file, x, y, width, height }) {
      const { style } = element;
      style.backgroundImage = `url("${neighbour(file).replaceAll('"', "%22")}")`;
      style.backgroundPosition = `-${x}px -${y}px`;
      style.width = `${width}px`;
      style.height = `${height}px`;
    },
  };
}
