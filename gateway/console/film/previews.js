/** The small pictures of a film: parts of one JPEG sheet, listed in WebVTT with `#xywh` fragments. */

import { h } from "../players/dom.js";
import { neighbour } from "../players/status.js";

/** @typedef {{start: number, end: number, file: string, x: number, y: number, width: number, height: number}} Preview */

const MAX_BYTES = 200_000; // of the list; a longer one is not Millrace's
const CUE = /^(?:(\d{2,}):)?(\d{2}):(\d{2}\.\d{3}) --> (?:(\d{2,}):)?(\d{2}):(\d{2}\.\d{3})/;
const PLACE = /^([\w.-]+)#xywh=(\d+),(\d+),(\d+),(\d+)$/;

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
 * @param {string} text  WebVTT
 * @returns {Preview[]}
 */
export function parse(text) {
  const found = [];
  const lines = text.split(/\r?\n/);
  for (const [i, line] of lines.entries()) {
    const times = CUE.exec(line);
    const place = PLACE.exec(lines[i + 1] ?? "");
    if (!times || !place) continue;
    const [x = 0, y = 0, width = 0, height = 0] = place.slice(2).map(Number);
    found.push({ start: seconds(times.slice(1, 4)), end: seconds(times.slice(4)), file: place[1] ?? "", x, y, width, height });
  }
  return found;
}

/** @param {(string | undefined)[]} parts  hours, minutes, seconds */
function seconds([hours = "0", minutes = "0", rest = "0"]) {
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}

/**
 * @param {readonly Preview[]} all
 * @param {number} at  seconds
 * @returns {Preview | undefined}
 */
export function previewAt(all, at) { return all.findLast(({ start }) => start <= at) ?? all[0]; }

/**
 * Returns previews at equal distances, as chapters.
 * @param {readonly Preview[]} all
 * @param {number} most
 * @returns {Preview[]}
 */
export function chapters(all, most) {
  const step = Math.max(1, Math.ceil(all.length / most));
  return all.filter((_, i) => i % step === 0);
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
