/** Reads the list of a film's small pictures: WebVTT whose cues name parts of a picture with `#xywh` fragments. */

/** @typedef {{start: number, end: number, file: string, x: number, y: number, width: number, height: number}} Preview */

const CUE = /^(?:(\d{2,}):)?(\d{2}):(\d{2}\.\d{3}) --> (?:(\d{2,}):)?(\d{2}):(\d{2}\.\d{3})/;
const PLACE = /^([\w.-]+)#xywh=(\d+),(\d+),(\d+),(\d+)$/;

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
