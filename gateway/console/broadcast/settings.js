/** The user's settings: always kept in this browser, and also in the gateway if a user is signed in. */

import { keep, recall } from "../players/memory.js";
import { api } from "../players/api.js";
import { SIZES } from "./devices.js";

/**
 * @typedef {object} Settings
 * @property {string} camera       device id; "" any, "none" no camera
 * @property {string} microphone   device id; "" any, "none" no microphone
 * @property {string} speaker      device id; "" the system's
 * @property {import("./devices.js").Facing} facing
 * @property {import("./devices.js").Size} size
 * @property {number} frameRate
 * @property {number} bitrate      bit/s of the picture; 0: by size and rate
 * @property {number} soundBitrate
 * @property {"no" | "preview" | "all"} mirror
 * @property {"auto" | import("./types.js").Transport} way
 * @property {boolean} processing
 */

export const FRAME_RATES = [15, 24, 30, 60];
export const BITRATES = [500_000, 1_000_000, 1_500_000, 2_500_000, 4_000_000, 6_000_000, 8_000_000];
export const SOUND_BITRATES = [64_000, 96_000, 128_000, 192_000];

/** @type {Settings} */
const USUAL = {
  camera: "", microphone: "", speaker: "", facing: "user", size: "720p", frameRate: 30, bitrate: 0, soundBitrate: 128_000,
  mirror: "no", way: "auto", processing: true,
};

/** @type {{[Name in keyof Settings]: (value: unknown) => boolean}} */
const VALID = {
  camera: isDevice, microphone: isDevice, speaker: isDevice,
  facing: (value) => value === "user" || value === "environment",
  size: (value) => typeof value === "string" && Object.hasOwn(SIZES, value),
  frameRate: (value) => FRAME_RATES.includes(Number(value)),
  bitrate: (value) => value === 0 || BITRATES.includes(Number(value)),
  soundBitrate: (value) => SOUND_BITRATES.includes(Number(value)),
  mirror: (value) => value === "no" || value === "preview" || value === "all",
  way: (value) => value === "auto" || value === "frames" || value === "container" || value === "whip",
  processing: (value) => typeof value === "boolean",
};

/** @param {unknown} value */
function isDevice(value) { return typeof value === "string" && value.length <= 512; }

/**
 * Reads stored settings of any version; unknown values are replaced by defaults.
 * @param {unknown} stored
 * @returns {Settings}
 */
export function understood(stored) {
  const settings = { ...USUAL };
  if (stored === null || typeof stored !== "object") return settings;
  for (const [name, value] of Object.entries(stored)) {
    if (Object.hasOwn(VALID, name) && VALID[/** @type {keyof Settings} */ (name)](value)) Object.assign(settings, { [name]: value });
  }
  return settings;
}

/** Returns the settings of this browser's last broadcast. */
export function local() {
  try {
    return understood(JSON.parse(recall("broadcast") ?? "null"));
  } catch {
    return understood(null); // not in our format
  }
}

/** @typedef {Record<string, any>} Profile */

/** Loads and saves the profile of the signed-in user. */
export class Keeper {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Profile} */
  #changes = {};

  /** @param {boolean} remote  whether a user is signed in */
  constructor(remote) { this.remote = remote; }

  /** @returns {Promise<Profile>} */
  async load() { return this.remote ? await api.get("/profile") ?? {} : {}; }

  /** @param {Settings} settings */
  keep(settings) {
    keep("broadcast", JSON.stringify(settings));
    if (!this.remote) return;
    this.#changes["broadcast"] = settings;
    clearTimeout(this.#timer);
    // Waits, so that several quick changes are saved once. An error is ignored, because it does not affect the broadcast.
    this.#timer = setTimeout(() => this.save({}).catch(() => undefined), 800);
  }

  /**
   * Changes entries of the profile and keeps the others. @param {Profile} changes
   * @returns {Promise<void>}
   */
  save(changes) {
    clearTimeout(this.#timer);
    Object.assign(this.#changes, changes);
    const next = this.#last.then(async () => {
      const now = this.#changes;
      this.#changes = {};
      await api.put("/profile", { ...await this.load(), ...now });
    });
    this.#last = next.catch(() => undefined); // the caller gets the error
    return next;
  }
}
