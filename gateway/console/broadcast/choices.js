/** The pickers and switches of the page, and the settings that they change. */

import { list, SIZES } from "./devices.js";
import { element, fillPicker, html, input, select } from "./elements.js";
import { usualBitrate } from "./formats.js";
import { bitrate } from "./numbers.js";
import { BITRATES, FRAME_RATES, SOUND_BITRATES } from "./settings.js";
import { speak } from "../players/language.js";
import { t } from "./words.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("./devices.js").Size} Size */

const hasSinks = () => "setSinkId" in HTMLMediaElement.prototype;

/** Shows and changes the settings; `changed` is called with the names that the user changed. */
export class Choices {
  settings;
  #changed;
  /** The id of the device that is open. @type {(name: "camera" | "microphone") => string} */
  #open = () => "";
  /** @type {Record<"camera" | "microphone" | "speaker", MediaDeviceInfo[]>} */
  #devices = { camera: [], microphone: [], speaker: [] };

  /** @param {Settings} settings @param {(names: (keyof Settings)[]) => void} changed */
  constructor(settings, changed) {
    this.settings = settings;
    this.#changed = changed;
    for (const name of /** @type {const} */ (["camera", "microphone", "speaker"])) {
      select(name).addEventListener("change", () => this.#set({ [name]: select(name).value }));
    }
    select("size").addEventListener("change", () => this.#set({ size: /** @type {Size} */ (select("size").value) }));
    select("frame-rate").addEventListener("change", () => this.#set({ frameRate: Number(select("frame-rate").value) }));
    select("bitrate").addEventListener("change", () => this.#set({ bitrate: Number(select("bitrate").value) }));
    select("sound-bitrate").addEventListener("change", () => this.#set({ soundBitrate: Number(select("sound-bitrate").value) }));
    select("mirror").addEventListener("change", () => this.#set({ mirror: /** @type {Settings["mirror"]} */ (select("mirror").value) }));
    select("way").addEventListener("change", () => this.#set({ way: /** @type {Settings["way"]} */ (select("way").value) }));
    input("processing").addEventListener("change", () => this.#set({ processing: input("processing").checked }));
    html("speaker-row").hidden = !hasSinks();
    speak(() => this.show());
  }

  /** Sets the function that returns the ids of open devices. @param {(name: "camera" | "microphone") => string} open */
  knows(open) { this.#open = open; }

  /** Replaces the settings of this browser by the loaded ones. @param {Settings} settings */
  replace(settings) {
    this.settings = settings;
    this.show();
  }

  /** Changes settings as if the user had chosen them. @param {Partial<Settings>} change */
  choose(change) {
    this.#set(change);
    this.show();
  }

  /** Updates the lists of devices. Their names are known once the page may use a device of the kind. */
  async refresh() {
    const [camera, microphone, speaker] = await Promise.all([list("videoinput"), list("audioinput"), list("audiooutput")]);
    this.#devices = { camera, microphone, speaker };
    this.show();
  }

  get cameras() { return this.#devices.camera.length; }

  /** Locks the settings that cannot change while live. @param {boolean} on */
  lock(on) {
    element("quality", HTMLFieldSetElement).disabled = on;
    element("advanced", HTMLFieldSetElement).disabled = on;
    html("locked").hidden = !on;
  }

  show() {
    const { settings } = this;
    const [width, height] = SIZES[settings.size];
    this.#pick("camera", true);
    this.#pick("microphone", true);
    this.#pick("speaker", false);
    fillPicker(select("size"), Object.keys(SIZES).map((name) => [name, name]), settings.size);
    fillPicker(select("frame-rate"), FRAME_RATES.map((rate) => [String(rate), String(rate)]), String(settings.frameRate));
    const usual = usualBitrate(width, height, settings.frameRate);
    fillPicker(select("bitrate"), [
      ["0", t("picture.auto", { bitrate: bitrate(usual) })],
      ...BITRATES.map((bits) => /** @type {[string, string]} */ ([String(bits), bitrate(bits)])),
    ], String(settings.bitrate));
    fillPicker(select("sound-bitrate"), SOUND_BITRATES.map((bits) => [String(bits), bitrate(bits)]), String(settings.soundBitrate));
    fillPicker(select("mirror"), (/** @type {const} */ (["no", "preview", "all"])).map((one) => [one, t(`picture.mirror.${one}`)]),
      settings.mirror);
    fillPicker(select("way"), (/** @type {const} */ (["auto", "frames", "container", "whip"])).map((one) => [one, t(`advanced.way.${one}`)]),
      settings.way);
    input("processing").checked = settings.processing;
  }

  /** @param {"camera" | "microphone" | "speaker"} name @param {boolean} optional  whether "none" is a choice */
  #pick(name, optional) {
    const devices = this.#devices[name];
    /** @type {[string, string][]} */
    const named = devices.map((device, i) =>
      [device.deviceId, device.label || t("devices.number", { kind: t(`devices.${name}`), number: i + 1 })]);
    /** @type {[string, string][]} */
    const none = optional ? [["none", t("devices.none")]] : [];
    /** @type {[string, string][]} */
    const any = optional && named.length ? [] : [["", t(`devices.${name}.any`)]];
    // If none was chosen, the device that the browser selected.
    const chosen = this.settings[name] || (name === "speaker" ? "" : this.#open(name));
    fillPicker(select(name), [...any, ...named, ...none], chosen);
  }

  /** @param {Partial<Settings>} change */
  #set(change) {
    this.settings = { ...this.settings, ...change };
    this.#changed(/** @type {(keyof Settings)[]} */ (Object.keys(change)));
    if ("size" in change || "frameRate" in change) this.show(); // the usual bit rate depends on them
  }
}
