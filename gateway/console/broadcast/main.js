/** Combines the parts of the broadcaster's page: channel, settings, buttons. */

import { countViewers } from "./audience.js";
import { Choices } from "./choices.js";
import { isGranted } from "./devices.js";
import { button, element, html, input, say } from "./elements.js";
import { Meter } from "./meter.js";
import { Relay } from "./relay.js";
import { Keeper, local, understood } from "./settings.js";
import { StageView } from "./stage-view.js";
import { BroadcastController } from "./broadcast-controller.js";
import { fromConsole, fromKey, inConsole, NoTarget, parseKey } from "./target.js";
import { draw, tick } from "./view.js";
import { setUpWatch, showWatch } from "./watch.js";
import { link } from "../players/api.js";
import { changeLanguage, speak, speaks } from "../players/language.js";
import { themed } from "../players/theme.js";
import { fillWords, t } from "./words.js";

/** @typedef {import("./settings.js").Settings} Settings */

const KEPT = "millrace.broadcast.key"; // kept while this tab is open, so that a reload uses the same key
const AGREED = "millrace.broadcast.server"; // the other server that the user agreed to, kept as long

const tab = tabStorage();
let keeper = new Keeper(false);
/** @type {Relay | null} */
let relay = null;
/** @type {import("./target.js").Target | null} */
let asked = null; // a target on another server that the user has not agreed to yet

let finding = Promise.resolve(); // until the target of the page's address is known
const stage = new StageView();
const choices = new Choices(local(), (names) => void chosen(names));
const controller = new BroadcastController(choices, async () => { await stage.ready(); return stage.size; }, () => draw(controller, stage));
choices.knows((name) => controller.inputs[name]?.getTracks()[0]?.getSettings().deviceId ?? "");
const monitor = element("monitor", HTMLAudioElement);

link.away = () => t("key.silent");
// Here the page is a part of the console, which has a start page of its own.
if (inConsole()) element("manifest", HTMLLinkElement).href = "/console/app/manifest.webmanifest";

/** @returns {Pick<Storage, "getItem" | "setItem" | "removeItem">} of this tab; without permission, of this page */
function tabStorage() {
  try {
    return sessionStorage;
  } catch {
    /** @type {Map<string, string>} */
    const kept = new Map();
    return {
      getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => void kept.set(name, value),
      removeItem: (name) => void kept.delete(name),
    };
  }
}

/** @param {(keyof Settings)[]} names  of the changed settings */
async function chosen(names) {
  keeper.keep(choices.settings);
  const is = (/** @type {(keyof Settings)[]} */ ...some) => some.some((name) => names.includes(name));
  if (is("speaker")) await listen();
  // Only open devices are opened again, so that no prompt of the browser surprises the user.
  const open = controller.inputs.camera !== null || controller.inputs.microphone !== null;
  if (open && is("camera", "facing", "size", "frameRate")) await controller.inputs.reopenCamera();
  if (open && is("microphone", "processing")) await controller.inputs.reopenMicrophone();
  controller.refresh();
  choices.show();
}

/** Plays the sent sound on the chosen speaker. */
async function listen() {
  const on = input("listen").checked;
  monitor.srcObject = on ? controller.sound?.stream ?? null : null;
  if ("setSinkId" in monitor) await monitor.setSinkId(choices.settings.speaker).catch(() =>
    undefined); // not connected: uses the system's speaker
  if (monitor.srcObject) await monitor.play();
}

async function openDevices() {
  await controller.open();
  await choices.refresh();
  button("flip").hidden = choices.cameras < 2 || !matchMedia("(pointer: coarse)").matches;
}

function wire() {
  button("live").addEventListener("click", async () => {
    await finding; // the key may still be on its way from the gateway
    if (controller.target === null && !html("key-card").hidden) {
      await useKey();
      if (controller.target === null && asked === null) return; // it has said why
    }
    if (asked !== null) return button("key-decline").focus();
    await controller.live();
    await choices.refresh();
  });
  button("stop").addEventListener("click", () => controller.stop());
  button("open").addEventListener("click", () => void openDevices());
  button("retry").addEventListener("click", () => void openDevices());
  button("mute").addEventListener("click", () => controller.mute(!controller.muted));
  button("hide").addEventListener("click", () => controller.hide(!controller.hidden));
  button("share").addEventListener("click", async () => {
    if (controller.inputs.screen) return controller.inputs.unshareScreen();
    if (await controller.openSound()) await controller.inputs.shareScreen();
  });
  button("flip").addEventListener("click", () => {
    choices.choose({ camera: "", facing: choices.settings.facing === "user" ? "environment" : "user" });
  });
  input("listen").addEventListener("change", () => void listen());
  element("key-card", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void useKey();
  });
  button("key-forget").addEventListener("click", forgetKey);
  button("key-decline").addEventListener("click", () => { input("key").value = ""; forgetKey(); });
  button("key-agree").addEventListener("click", () => {
    if (asked === null) return;
    tab.setItem(AGREED, asked.foreign);
    take(asked);
  });
  button("language").addEventListener("click", changeLanguage);
  if (!("mediaDevices" in navigator) || !("getDisplayMedia" in navigator.mediaDevices)) button("share").hidden = true;
  navigator.mediaDevices?.addEventListener("devicechange", () => void choices.refresh());
  addEventListener("hashchange", () => { if (controller.phase === "off") finding = find(); });
  new Meter(() => ({
    level: controller.sound?.level() ?? -Infinity, missing: controller.inputs.microphone === null,
    muted: controller.muted || controller.inputs.microphone?.getTracks()[0]?.muted === true, // the second by the system
    asleep: !controller.sound?.running,
  }));
  for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => void controller.sound?.resume());
  setInterval(() => tick(controller), 250);
  setInterval(() => {
    if (!controller.isOn) return;
    void relay?.look();
    void count();
  }, 5000);
}

/** Shows the number of viewers. */
async function count() {
  controller.viewers = controller.target && await countViewers(controller.target);
  draw(controller, stage);
}

/** Reads the target from the page's address. */
async function find() {
  const said = decoded(location.hash.slice(1));
  const key = parseKey(said) ? said : tab.getItem(KEPT) ?? "";
  if (parseKey(key)) {
    // Removes the key, because addresses are visible on screens, kept in histories, and copied.
    history.replaceState(null, "", location.pathname + location.search);
    input("key").value = key;
    return useKey();
  }
  if (inConsole() && said) return useChannel(said);
  showKey();
}

/** @param {string} text  of an address @returns {string} */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // it has a "%" that begins no escape
  }
}

/** @param {string} id */
async function useChannel(id) {
  try {
    controller.target = await fromConsole(id);
  } catch (error) {
    return refused(error);
  }
  asked = null; // the target of an earlier link is not used
  element("home", HTMLAnchorElement).href = `/#/channels/${encodeURIComponent(id)}`;
  keeper = new Keeper(true);
  /** @type {import("./settings.js").Profile} */
  const profile = await keeper.load().catch(() => ({})); // without it the settings of this browser are used
  if (profile["broadcast"]) choices.replace(understood(profile["broadcast"]));
  relay ??= new Relay(controller.target, keeper, profile);
  showWatch(controller.target);
  showKey();
}

function forgetKey() {
  tab.removeItem(KEPT);
  asked = controller.target = null;
  showWatch(null);
  showKey();
  input("key").focus();
}

async function useKey() {
  let target;
  try {
    target = await fromKey(input("key").value);
  } catch (error) {
    return refused(error);
  }
  if (!target.foreign || target.foreign === tab.getItem(AGREED)) return take(target);
  asked = target;
  controller.target = null;
  controller.notice = null;
  showWatch(null);
  showKey();
  draw(controller, stage);
  button("key-decline").focus();
}

/** @param {import("./target.js").Target} target  that this page sends to from now on */
function take(target) {
  asked = null;
  controller.target = target;
  tab.setItem(KEPT, input("key").value.trim());
  controller.notice = null;
  showWatch(inConsole() || target.foreign ? null : target);
  showKey();
  draw(controller, stage);
}

/** @param {unknown} error */
function refused(error) {
  if (!(error instanceof NoTarget)) throw error;
  const { word, reason } = error;
  controller.notice = input("key").value || word !== "key.wrong" ? { word, fill: { reason } } : { word: "key.missing" };
  showKey();
  draw(controller, stage);
  input("key").focus();
}

function showKey() {
  const { target } = controller;
  html("key-card").hidden = target?.ours === true;
  html("key-entry").hidden = target !== null || asked !== null;
  html("key-used").hidden = target === null;
  html("key-foreign").hidden = asked === null;
  const using = target?.foreign ? "key.usingThere" : "key.using";
  say("key-words", target ? t(using, { name: target.name, host: target.foreign }) : "");
  say("key-foreign-words", asked ? t("key.foreign", { host: asked.foreign, here: location.host }) : "");
  html("home").hidden = !inConsole();
  title();
}

function title() {
  const name = controller.target?.ours ? controller.target.name : t("page.title");
  say("title", name);
  document.title = `${name} · Millrace`;
}

async function begin() {
  themed(button("theme"), speak, t);
  setUpWatch();
  wire();
  speak(() => {
    document.documentElement.lang = speaks() === "zh" ? "zh-Hans" : "en";
    fillWords(document);
    showKey();
    draw(controller, stage);
  });
  finding = find();
  await finding;
  await choices.refresh();
  // If the user has given permission before, no click is needed.
  if (await isGranted("camera") && await isGranted("microphone")) await openDevices();
}

await begin();
