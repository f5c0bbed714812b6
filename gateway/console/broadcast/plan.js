/** Plans how this browser sends with the user's settings. */

import { SIZES } from "./devices.js";
import { containerFormat, pictureFormat, soundFormat, usualBitrate, within } from "./formats.js";
import { hasStreams } from "./picture.js";
import { CHANNELS, RATE } from "./sound.js";
import { sendsWebRtc } from "./whip.js";

/** @typedef {import("./types.js").Start} Start */

/**
 * @param {import("./settings.js").Settings} settings
 * @param {{width?: number, height?: number}} source  the real size of the camera or screen
 * @param {import("./target.js").Target} target
 * @param {boolean} mirror
 * @returns {Promise<Start | null>} null if this browser or the server does not support the way
 */
export async function plan(settings, source, { urls, whip }, mirror) {
  const { frameRate, way } = settings;
  const drawn = !hasStreams();
  const [width, height] = within(source, SIZES[settings.size]);
  const bitrate = settings.bitrate || usualBitrate(width, height, frameRate);
  const wish = { width, height, frameRate, bitrate };
  const opus = /** @type {const} */ ({ codec: "opus", sampleRate: RATE, channels: CHANNELS, bitrate: settings.soundBitrate });
  if (way === "whip") {
    return whip && sendsWebRtc()
      ? { transport: "whip", urls: [whip], picture: { ...wish, codec: "H.264" }, sound: opus, mirror, exact: true, drawn } : null;
  }
  if (way !== "container") {
    const [picture, sound] = await Promise.all([pictureFormat(wish), soundFormat(settings.soundBitrate)]);
    if (picture && sound) return { transport: "frames", urls, picture, sound, mirror, exact: drawn, drawn: false };
  }
  const type = containerFormat();
  if (type === null || way === "frames") return null;
  return { transport: "container", urls, picture: { ...wish, codec: type }, sound: opus, mirror, exact: true, drawn };
}
