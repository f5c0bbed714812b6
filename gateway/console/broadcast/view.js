/** Draws the page from the state of the controller. */

import { button, element, html, press, say } from "./elements.js";
import { bitrate, duration, fine, milliseconds, perSecond, share } from "./numbers.js";
import { t } from "./words.js";

/** @typedef {import("./broadcast-controller.js").BroadcastController} BroadcastController */

/**
 * @param {BroadcastController} controller
 * @param {import("./stage-view.js").StageView} stage
 */
export function draw(controller, stage) {
  const { phase, inputs } = controller;
  stage.show(controller.scene, inputs.picture, controller.isMirrored, inputs.microphone !== null && !controller.muted);
  button("live").dataset["busy"] = String(phase === "preparing");
  button("stop").dataset["busy"] = String(phase === "stopping");
  swap(button(controller.isOn ? "live" : "stop"), button(controller.isOn ? "stop" : "live"));
  press(button("mute"), controller.muted, t("do.mute"));
  press(button("hide"), controller.hidden, t("do.hide"));
  press(button("share"), inputs.screen !== null, t("do.share"));
  button("hide").disabled = inputs.screen !== null;
  button("key-forget").disabled = phase !== "off"; // the running broadcast keeps its channel
  html("camera-hint").hidden = inputs.screen === null;
  badge(controller);
  notices(controller);
  facts(controller);
}

/** Replaces one button by another and moves the focus. @param {HTMLElement} from @param {HTMLElement} to */
function swap(from, to) {
  const focused = document.activeElement === from;
  to.hidden = false;
  from.hidden = true;
  if (focused) to.focus();
}

/** Updates the parts that change with time. @param {BroadcastController} controller */
export function tick(controller) {
  const time = controller.since ? duration(performance.now() - controller.since) : "";
  html("clock").hidden = !time;
  say("clock", time);
  say("time", time || t("facts.none"));
  say("state", stateWords(controller));
}

/** @param {BroadcastController} controller @returns {string} */
function stateWords({ phase, progress, next }) {
  if (phase === "waiting") return t("state.waiting", { seconds: Math.max(0, Math.ceil((next - performance.now()) / 1000)) });
  if (phase === "connecting") {
    if (progress?.phase === "accepted") return t("state.accepted");
    return t("state.connecting", { server: progress?.phase === "connecting" ? progress.server : "" });
  }
  return t(`state.${phase}`);
}

/** @param {BroadcastController} controller */
function badge({ phase }) {
  const shown = phase === "live" || phase === "waiting" || phase === "connecting" ? phase : "off";
  const place = html("badge");
  place.dataset["phase"] = shown;
  say("badge", t(`badge.${shown}`));
}

/** @param {BroadcastController} controller */
function notices({ notice, retryable, explanation, warning, phase }) {
  html("notice").hidden = notice === null;
  html("notice").dataset["kind"] = phase === "waiting" ? "warn" : "bad";
  say("notice-words", notice ? t(notice.word, notice.fill) + (explanation && phase === "off" ? ` (${explanation})` : "") : "");
  html("sign-in").hidden = notice?.word !== "key.signedOut";
  button("retry").hidden = !(notice && retryable && phase === "off");
  html("warning").hidden = warning === null || notice !== null;
  say("warning", warning ? t(warning.word, warning.fill) : "");
}

/** @param {BroadcastController} controller */
function facts(controller) {
  const { figures, health } = controller;
  const none = t("facts.none");
  say("sent", figures ? bitrate(figures.bitrate) : none);
  say("rate", figures ? perSecond(figures.rate) : none);
  say("dropped", figures ? String(figures.late + figures.busy + health.dropped) : none);
  say("behind", figures ? fine(health.behind) : none);
  const webrtc = figures?.roundTrip !== undefined;
  html("behind-fact").hidden = webrtc; // a push by WebRTC gets no reports of the server's encoder
  html("network-fact").hidden = !webrtc;
  say("network", webrtc ? `${share(figures.loss ?? 0)} · ${milliseconds(figures.roundTrip ?? 0)}` : none);
  html("viewers-fact").hidden = controller.viewers === null || !controller.isOn;
  say("viewers", String(controller.viewers ?? none));
  element("dropped-label", HTMLElement).title = t("facts.dropped.why");
  element("behind-label", HTMLElement).title = t("facts.behind.why");
  tick(controller);
}
