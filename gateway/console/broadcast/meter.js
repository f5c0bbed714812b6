/** The sound level meter. */

import { html, say } from "./elements.js";
import { t } from "./words.js";

const FLOOR = -60;    // dBFS
const FALL = 1.2;     // dB that the bar falls at each update, so that the eye can follow
const SILENCE = -55;
const PATIENCE = 6;   // seconds of silence before the hint about it

/** @typedef {{level: number, muted: boolean, missing: boolean, asleep: boolean}} Look */

export class Meter {
  #bar; #shown = FLOOR; #told = 0; #heard = performance.now();

  /** asleep: the sound is not processed yet. @param {() => Look} look */
  constructor(look) {
    const meter = html("meter");
    const bar = meter.querySelector("i");
    if (bar === null) throw new Error("the meter has no bar");
    this.#bar = bar;
    setInterval(() => { if (!document.hidden) this.#show(look(), meter); }, 50);
  }

  /** @param {Look} now @param {HTMLElement} meter */
  #show({ level, muted, missing, asleep }, meter) {
    const time = performance.now();
    this.#shown = Math.max(FLOOR, Math.min(0, level), this.#shown - FALL);
    this.#bar.style.transform = `scaleX(${1 - this.#shown / FLOOR})`;
    if (level > SILENCE || muted || missing || asleep) this.#heard = time;
    if (time - this.#told < 500) return;
    this.#told = time;
    meter.setAttribute("aria-valuenow", String(Math.round(this.#shown)));
    meter.setAttribute("aria-valuetext", `${Math.round(this.#shown)} dB`);
    meter.dataset["loud"] = String(this.#shown > -3);
    const silent = time - this.#heard > PATIENCE * 1000;
    say("meter-hint", missing ? t("meter.none") : muted ? t("meter.muted") : silent ? t("meter.silent") : "");
  }
}
