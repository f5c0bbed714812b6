/** Messages for a camera, microphone or screen that cannot be opened. */

import { isWord } from "./words.js";

/** @typedef {import("./words.js").Word} Word */
/** @typedef {"camera" | "microphone" | "both" | "screen"} What */
/** @typedef {{word: Word, fill?: Record<string, string | number>}} Message */

// Older names of these errors.
const ALIASES = /** @type {Record<string, string>} */ ({
  PermissionDeniedError: "NotAllowedError", SecurityError: "NotAllowedError", DevicesNotFoundError: "NotFoundError",
  TrackStartError: "NotReadableError", AbortError: "NotReadableError",
});

/**
 * @param {unknown} error  of getUserMedia or getDisplayMedia
 * @param {What} what
 * @returns {Message}
 */
export function deviceErrorMessage(error, what) {
  const name = error instanceof Error ? ALIASES[error.name] ?? error.name : "";
  const reason = error instanceof Error ? error.message || error.name : String(error);
  if (name === "NotAllowedError" && /system/i.test(reason)) return { word: "fault.NotAllowedError.system" };
  const word = `fault.${name}.${what}`;
  return isWord(word) ? { word } : { word: `fault.other.${what}`, fill: { reason } };
}
