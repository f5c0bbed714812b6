/** The open camera, microphone and screen. Changes run one after the other. */

import { deviceErrorMessage } from "./device-errors.js";
import { isGranted, list, offersDevices, openBoth, openCamera, openMicrophone, openScreen, stop } from "./devices.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./device-errors.js").Message} Message */

/**
 * Callbacks of the owner.
 * @typedef {object} Listener
 * @property {() => void} changed          other devices are open now
 * @property {(message: Message) => void} fault  a device could not be opened, or was disconnected
 */

export class Inputs {
  /** @type {MediaStream | null} */
  camera = null;
  /** @type {MediaStream | null} */
  microphone = null;
  /** @type {MediaStream | null} */
  screen = null;
  opening = false;
  /** Ids of the devices that were unplugged; "": none. */
  #lost = { camera: "", microphone: "" };
  #settings; #on;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();

  /** @param {() => Settings} settings @param {Listener} on */
  constructor(settings, on) {
    this.#settings = settings;
    this.#on = on;
    if (offersDevices()) navigator.mediaDevices.addEventListener("devicechange", () => void this.#plugged());
  }

  /** The shown source: the screen while it is shared, else the camera. */
  get picture() { return this.screen?.getVideoTracks()[0] ?? this.camera?.getVideoTracks()[0] ?? null; }

  /** Opens the chosen devices that are not open yet, with one permission prompt for both. */
  open() {
    return this.#inTurn(async () => {
      const { camera, microphone } = this.#settings();
      const [see, hear] = [camera !== "none" && this.camera === null, microphone !== "none" && this.microphone === null];
      if (!see && !hear) return;
      this.opening = true;
      this.#on.changed();
      try {
        if (see && hear) await this.#both();
        else await this.#one(see ? "camera" : "microphone");
      } finally {
        this.opening = false;
        this.#on.changed();
      }
    });
  }

  /** Opens another camera, or the same one with other settings. */
  reopenCamera() {
    return this.#inTurn(async () => {
      stop(this.camera); // before the next is opened, because many systems allow only one camera at a time
      this.camera = null;
      if (this.#settings().camera !== "none") await this.#one("camera");
      this.#on.changed();
    });
  }

  reopenMicrophone() {
    return this.#inTurn(async () => {
      stop(this.microphone);
      this.microphone = null;
      if (this.#settings().microphone !== "none") await this.#one("microphone");
      this.#on.changed();
    });
  }

  shareScreen() {
    return this.#inTurn(async () => {
      if (this.screen !== null) return;
      try {
        const screen = this.screen = await openScreen(this.#settings().frameRate);
        screen.getVideoTracks()[0]?.addEventListener("ended", () => { if (this.screen === screen) this.unshareScreen(); });
      } catch (error) {
        this.#on.fault(deviceErrorMessage(error, "screen"));
      }
      this.#on.changed();
    });
  }

  unshareScreen() {
    stop(this.screen);
    this.screen = null;
    this.#on.changed();
  }

  async #both() {
    const settings = this.#settings();
    /** @type {unknown} */
    let refusal;
    try {
      const { camera, microphone } = await openBoth(this.#seeing(settings), this.#hearing(settings));
      this.#hold("camera", camera);
      this.#hold("microphone", microphone);
      return;
    } catch (error) {
      refusal = error;
    }
    // Tries each one alone. After a refusal there is no second prompt: only a device that is already allowed is opened.
    const asked = refusal instanceof DOMException && refusal.name === "NotAllowedError";
    const [see, hear] = asked ? await Promise.all([isGranted("camera"), isGranted("microphone")]) : [true, true];
    const seeing = see ? await this.#try("camera") : refusal;
    const hearing = hear ? await this.#try("microphone") : refusal;
    if (seeing && hearing) this.#on.fault(deviceErrorMessage(refusal, "both"));
    else if (seeing) this.#on.fault(deviceErrorMessage(seeing, "camera"));
    else if (hearing) this.#on.fault(deviceErrorMessage(hearing, "microphone"));
  }

  /** @param {"camera" | "microphone"} what */
  async #one(what) {
    const error = await this.#try(what);
    if (error) this.#on.fault(deviceErrorMessage(error, what));
  }

  /** @param {"camera" | "microphone"} what @param {Settings} [settings] @returns {Promise<unknown>} the error; null if it is open */
  async #try(what, settings = this.#settings()) {
    try {
      this.#hold(what, what === "camera" ? await openCamera(this.#seeing(settings)) : await openMicrophone(this.#hearing(settings)));
      return null;
    } catch (error) {
      return error;
    }
  }

  /** @param {Settings} settings */
  #seeing({ camera, facing, size, frameRate }) { return { device: camera, facing, size, frameRate }; }

  /** @param {Settings} settings */
  #hearing({ microphone, processing }) { return { device: microphone, processing }; }

  /** @param {"camera" | "microphone"} what @param {MediaStream} stream */
  #hold(what, stream) {
    this[what] = stream;
    this.#lost[what] = "";
    const [track] = stream.getTracks();
    track?.addEventListener("ended", () => {
      if (this[what] !== stream) return;
      this[what] = null;
      this.#lost[what] = track.getSettings().deviceId ?? "";
      this.#on.fault({ word: `fault.unplugged.${what}` });
      this.#on.changed();
    });
  }

  /** Opens a device again that was unplugged and is back, without a message. */
  #plugged() {
    return this.#inTurn(async () => {
      const settings = this.#settings();
      for (const what of /** @type {const} */ (["camera", "microphone"])) {
        const device = this.#lost[what];
        if (this[what] !== null || settings[what] === "none" || !device) continue;
        const found = await list(what === "camera" ? "videoinput" : "audioinput");
        if (found.some(({ deviceId }) => deviceId === device)) await this.#try(what, { ...settings, [what]: device });
      }
      this.#on.changed();
    });
  }

  /** @param {() => Promise<void>} change */
  #inTurn(change) {
    const next = this.#last.then(change);
    this.#last = next.catch(() => undefined); // the caller gets the error
    return next;
  }
}
