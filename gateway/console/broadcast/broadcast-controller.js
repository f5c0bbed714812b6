/** The state of the page: devices, Go live, the running broadcast, Stop. */

import { Broadcast } from "./broadcast.js";
import { offersDevices } from "./devices.js";
import { deviceErrorMessage } from "./device-errors.js";
import { Health } from "./health.js";
import { Inputs } from "./inputs.js";
import { note } from "./log.js";
import { bitrate } from "./numbers.js";
import { plan } from "./plan.js";
import { Sound } from "./sound.js";
import { t } from "./words.js";

/** @typedef {import("./words.js").Word} Word */
/** @typedef {import("./device-errors.js").Message} Message */
/** @typedef {import("./types.js").Figures} Figures */
/** @typedef {import("./types.js").Progress} Progress */
/** @typedef {import("./target.js").Target} Target */
/** @typedef {"off" | "preparing" | "connecting" | "live" | "waiting" | "stopping"} Phase */

const STOP_WITHIN = 5; // seconds after which an ending broadcast is cut off

/** Troubles for which the server's message gives more information. */
const EXPLAINED = ["unusable", "policy", "server"];

/**
 * The view reads its fields after each call of `changed`.
 */
export class BroadcastController {
  /** @type {Phase} */
  phase = "off";
  /** @type {Target | null} */
  target = null;
  /** The last error, until the next try. @type {Message | null} */
  notice = null;
  /** Whether a button may try again after the error. */
  retryable = false;
  /** A hint about a problem. @type {Message | null} */
  warning = null;
  /** @type {Progress | null} */
  progress = null;
  /** @type {Figures | null} */
  figures = null;
  /** Start of the live time, ms of performance.now(). */
  since = 0;
  /** Time of the next try. */
  next = 0;
  muted = false;
  /** The number of viewers; null: not known. @type {number | null} */
  viewers = null;
  hidden = false;
  health = new Health();
  /** @type {Sound | null} */
  sound = null;
  inputs;
  #choices; #changed; #size;
  /** @type {Broadcast | null} */
  #broadcast = null;
  /** @type {import("./types.js").Start | null} */
  #start = null;
  #fallen = false; // whether this broadcast changed from frames to a recording
  #slow = false;
  /** @type {WakeLockSentinel | null} */
  #awake = null;

  /**
   * @param {import("./choices.js").Choices} choices
   * @param {() => Promise<{width?: number, height?: number}>} size  resolves to the picture's size
   * @param {() => void} changed
   */
  constructor(choices, size, changed) {
    this.#choices = choices;
    this.#size = size;
    this.#changed = changed;
    this.inputs = new Inputs(() => choices.settings, {
      changed: () => this.#inputsChanged(),
      fault: (words) => this.#fail(words, true),
    });
    document.addEventListener("visibilitychange", () => void this.#stayAwake());
    addEventListener("beforeunload", (event) => { if (this.isOn) event.preventDefault(); });
  }

  /** Whether there is a broadcast, in any state. */
  get isOn() { return this.phase !== "off" && this.phase !== "preparing"; }

  /** The content of the preview. @returns {import("./stage-view.js").Scene} */
  get scene() {
    const { inputs } = this;
    if (inputs.screen) return "picture";
    if (inputs.opening) return "opening";
    if (inputs.camera) return this.hidden ? "hidden" : "picture";
    return inputs.microphone || this.#choices.settings.camera === "none" ? "none" : "off";
  }

  get isMirrored() { return this.inputs.screen === null && this.#choices.settings.mirror !== "no"; }

  /** Opens camera and microphone. @returns {Promise<boolean>} whether there is something to send */
  async open() {
    this.notice = null;
    if (!offersDevices()) {
      this.#fail({ word: isSecureContext ? "fault.missing" : "fault.insecure" }, false);
      return false;
    }
    if (!await this.openSound()) return false;
    await this.inputs.open();
    this.#inputsChanged();
    return this.inputs.picture !== null || this.#choices.settings.camera === "none";
  }

  /** @returns {Promise<boolean>} whether there is sound; a part of it comes from the server */
  async openSound() {
    try {
      this.sound ??= await Sound.open();
      return true;
    } catch (error) {
      const away = error instanceof DOMException && error.name === "AbortError";
      this.#fail(away ? { word: "key.silent" } : deviceErrorMessage(error, "microphone"), true);
      return false;
    }
  }

  async live() {
    if (this.phase !== "off") return;
    if (this.target === null) return this.#fail({ word: "key.missing" }, false);
    this.#fallen = false;
    this.since = 0;
    await this.#prepare();
  }

  stop() {
    if (!this.isOn || this.phase === "stopping") return;
    note(t("details.stop"));
    this.#to("stopping");
    const ending = this.#broadcast;
    ending?.stop();
    setTimeout(() => { if (ending !== null && ending === this.#broadcast) this.#over(); }, STOP_WITHIN * 1000);
  }

  /** @param {boolean} on */
  mute(on) {
    this.muted = on;
    this.#inputsChanged();
  }

  /** @param {boolean} on */
  hide(on) {
    this.hidden = on;
    this.#inputsChanged();
  }

  /** Passes the open devices to sound and broadcast; also after a change of settings. */
  refresh() { this.#inputsChanged(); }

  /** Opens the devices that are not open, and begins a broadcast. Nothing can stop it before that. */
  async #prepare() {
    this.#to("preparing");
    try {
      if (!await this.open() || this.sound === null) return this.#to("off");
      await this.sound.resume();
      await this.#begin();
    } catch (error) {
      this.#release();
      this.#to("off");
      this.#fail(deviceErrorMessage(error, "both"), true);
    }
  }

  async #begin() {
    const settings = this.#fallen ? { ...this.#choices.settings, way: /** @type {const} */ ("container") } : this.#choices.settings;
    if (this.target === null) return this.#to("off");
    const start = await plan(settings, await this.#size(), this.target, this.#mirrorsViewers());
    if (start === null || this.sound === null) {
      this.#fail({ word: settings.way === "whip" ? "fault.whip" : "fault.unsupported" }, false);
      return this.#to("off");
    }
    const { picture, sound } = this.#start = start;
    const way = t(`advanced.${start.transport}`);
    note(t("details.begin", {
      width: String(picture.width), height: String(picture.height), rate: picture.frameRate, bitrate: bitrate(picture.bitrate),
      way, codecs: start.transport === "container" ? picture.codec : `${picture.codec}, ${sound.codec}`,
    }));
    this.health = new Health();
    this.#slow = false;
    this.#to("connecting");
    this.#broadcast = new Broadcast(start, this.inputs.picture, this.sound, {
      progress: (progress) => this.#advance(progress),
      figures: (figures) => this.#measure(figures),
      line: (line) => this.#hear(line),
    });
    this.#inputsChanged();
    void this.#stayAwake();
  }

  /** @param {Progress} progress */
  #advance(progress) {
    if (this.phase === "stopping" && progress.phase !== "over") return; // what was under way changes nothing any more
    this.progress = progress;
    switch (progress.phase) {
      case "connecting":
        note(t("details.connecting", { server: progress.server }));
        this.#to("connecting");
        break;
      case "accepted":
        this.#changed();
        break;
      case "live":
        note(t("details.live", { server: progress.server }));
        this.since ||= performance.now();
        this.notice = null;
        this.#to("live");
        break;
      case "waiting":
        this.#noteEnd(progress);
        this.next = performance.now() + progress.seconds * 1000;
        this.notice = { word: navigator.onLine ? `trouble.${progress.why}` : "trouble.offline" };
        this.#to("waiting");
        break;
      case "over":
        this.#end(progress);
    }
  }

  /** @param {Progress & {phase: "over"}} progress */
  #end(progress) {
    const { why, reason } = progress;
    if (why !== null) this.#noteEnd(progress);
    const frames = this.#start?.transport === "frames" && this.#choices.settings.way === "auto";
    if ((why === "encoder" || why === "unusable") && frames && !this.#fallen && this.phase !== "stopping") {
      this.#fallen = true;
      note(t("details.fallback", { reason: reason || t("details.noreason") }));
      this.#release();
      void this.#prepare(); // it starts again with a recording instead of frames
      return;
    }
    this.#over();
    if (why === null) return;
    const fill = { reason: reason || t("details.noreason") };
    this.#fail({ word: `trouble.${why}`, fill }, false, EXPLAINED.includes(why) ? reason : "");
  }

  /** Returns the server's message about a failure, to show beside ours. */
  explanation = "";

  #over() {
    this.#release();
    this.since = 0;
    this.figures = null;
    this.warning = null;
    this.progress = null;
    this.notice = null;
    this.#to("off");
    void this.#awake?.release();
    this.#awake = null;
  }

  #release() {
    this.#broadcast?.close();
    this.#broadcast = null;
  }

  /** @param {Figures} figures */
  #measure(figures) {
    this.figures = figures;
    const wanted = (this.#start?.picture.bitrate ?? 0) + (this.#start?.sound.bitrate ?? 0);
    if (figures.slow !== this.#slow) {
      this.#slow = figures.slow;
      note(t(figures.slow ? "details.slower" : "details.full", { now: bitrate(figures.wanted), wanted: bitrate(wanted) }));
    }
    const seen = this.inputs.screen === null && !this.hidden;
    const paused = seen && this.inputs.picture?.muted === true; // by the system or in the browser
    const frameRate = seen && !paused ? this.#start?.picture.frameRate ?? 0 : 0;
    const problem = this.health.judge(figures, wanted, this.#start?.transport ?? "frames", frameRate);
    /** @type {Message | null} */
    const advice = paused ? { word: "warn.paused" } : this.#broadcast?.needsSight ? { word: "warn.hidden" } : null;
    this.warning = this.phase !== "live" ? null : document.hidden ? advice ?? problem : problem ?? advice;
    this.#changed();
  }

  /** @param {import("./types.js").ServerLine} line */
  #hear(line) {
    this.health.hear(line);
    const treatment = (/** @type {string | null | undefined} */ how) =>
      t(how === "copy" ? "details.copy" : how === "transcode" ? "details.transcode" : "details.unknown");
    if (line.type === "accepted") note(t("details.accepted", { video: treatment(line.video), audio: treatment(line.audio) }));
    else if (line.type === "error") note(t("details.error", { reason: line.reason ?? "", code: String(line.code ?? "") }));
    else if (line.type === "stats") {
      const { bitrate: bits = 0, frames = 0, dropped = 0, behind = 0 } = line;
      note(t("details.stats", { bitrate: bitrate(bits), frames, dropped, behind }), true);
    }
  }

  /** @param {{code: number, reason: string}} end */
  #noteEnd({ code, reason }) {
    if (code) note(t("details.closed", { code: String(code), reason: reason || t("details.noreason") }));
  }

  #inputsChanged() {
    const { inputs, sound } = this;
    for (const what of /** @type {const} */ (["camera", "microphone"])) {
      if (inputs[what] !== null && this.notice?.word === `fault.unplugged.${what}`) this.notice = null;
    }
    if (sound !== null) {
      sound.microphone = inputs.microphone;
      sound.screen = inputs.screen;
      sound.muted = this.muted;
    }
    const broadcast = this.#broadcast;
    if (broadcast !== null) {
      broadcast.show(inputs.picture);
      broadcast.mirror = this.#mirrorsViewers();
      broadcast.blank = inputs.picture === null || (this.hidden && inputs.screen === null);
    }
    this.#changed();
  }

  /** Whether to mirror; never a screen, because its text would be mirrored. */
  #mirrorsViewers() { return this.#choices.settings.mirror === "all" && this.inputs.screen === null; }

  /** @param {Message} words @param {boolean} retryable @param {string} [explanation] */
  #fail(words, retryable, explanation = "") {
    this.notice = words;
    this.retryable = retryable;
    this.explanation = explanation;
    note(t(words.word, words.fill) + (explanation ? ` (${explanation})` : ""));
    this.#changed();
  }

  /** @param {Phase} phase */
  #to(phase) {
    this.phase = phase;
    this.#choices.lock(phase !== "off");
    this.#changed();
  }

  /** Keeps a phone awake, because sleep ends the broadcast. The lock is lost whenever the page is hidden. */
  async #stayAwake() {
    if (!this.isOn || document.hidden || !("wakeLock" in navigator)) return;
    try {
      this.#awake = await navigator.wakeLock.request("screen");
    } catch {
      // The system may refuse, for example with a low battery.
    }
  }
}
