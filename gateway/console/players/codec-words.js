/** A sentence about media that this browser cannot decode, in place of the browser's own words. */

import { t } from "./words.js";

/** The names of codecs by the beginning of their entry in a `codecs` parameter (RFC 6381). @type {[RegExp, string][]} */
const NAMES = [[/\bh(vc|ev)1\b/, "HEVC (H.265)"], [/\bav01\b/, "AV1"], [/\bvp0?9\b/, "VP9"], [/\bavc[13]\b/, "H.264"],
  [/\bmp4a\b/, "AAC"], [/\bopus\b/i, "Opus"], [/\bflac\b/i, "FLAC"], [/\be?c-3\b|\bac-3\b/, "AC-3"]];
const OF_BROWSER = /Failed to|SourceBuffer|_ERR|unsupported|not supported/i;

/**
 * @param {string} detail  of the state "codec": words of the browser, of a library, or a sentence of ours
 * @returns {string}
 */
export function codecWords(detail) {
  const [found] = NAMES.filter(([pattern]) => pattern.test(detail));
  if (found) return t("detail.codec", { codec: found[1] });
  return OF_BROWSER.test(detail) ? t("detail.codec.unknown") : detail;
}
