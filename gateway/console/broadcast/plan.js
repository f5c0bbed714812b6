/** Plans how this browser sends with the user's settings. */

import { SIZES } from "./devices.js";
import { containerFormat, pictureFormat, soundFormat, usualBitrate, within } from "./formats.js";
import { hasStreams } from "./picture.js";
import { CHANNELS, RATE } from "./sound.js";

/** @typedef {import("./types.js").Start} Start */

/**
 * @param {import("./settings.js").Settings} settings
 * @param {{width?: number, height?: number}} source  the real size of the camera or screen
 * @param {string[]} urls
 * @param {boolean} mirror
 * @returns {Promise<Start | null>} null if this browser supports neither way
 */
export async function plan(settings, source, urls, mirror) {
  const { frameRate, way } = settings;
  const [width, height] = within(source, SIZES[settings.size]);
  const bitrate = settings.bitrate || usualBitrate(width, height, frameRate);
  const wish = { width, height, frameRate, bitrate };
  if (way !== "container") {
    const [picture, sound] = await Promise.all([pictureFormat(wish), soundFormat(settings.soundBitrate)]);
    if (picture && sound) return { transport: "frames", urls, picture, sound, mirror, exact: !hasStreams() };
  }
  const type = containerFormat();
  if (type === null || way === "frames") return null;
  const sound = /** @type {const} */ ({ codec: "opus", sampleRate: RATE, channels: CHANNELS, bitrate: settings.soundBitrate });
  return { transport: "container", urls, picture: { ...wish, codec: type }, sound, mirror, exact: true };
}
