/** One idea: the broadcaster's page put together: its channel, its settings, its buttons. */

import { Choices } from "./choices.js";
import { isGranted } from "./devices.js";
import { button, element, html, input, say } from "./elements.js";
import { Meter } from "./meter.js";
import { Relay } from "./relay.js";
import { Keeper, local, understood } from "./settings.js";
import { StageView } from "./stage-view.js";
import { Studio } from "./studio.js";
import { fromConsole, fromKey, inConsole, NoTarget, parseKey } from "./target.js";
import { draw, tick } from "./view.js";
import { setUpWatch, showWatch } from "./watch.js";
import { changeLanguage, speak, speaks } from "../players/language.js";
import { themed } from "../players/theme.js";
import { fillWords, t } from "./words.js";

/** @typedef {import("./settings.js").Settings} Settings */

const KEPT = "millrace.broadcast.key"; // for as long as this tab is open: a reload goes on with the same key

let keeper = new Keeper(false);
/** @type {Relay | null} */
let relay = null;

const stage = new StageView();
const choices = new Choices(local(), (names) => void chosen(names));
const studio = new Studio(choices, async () => { await stage.ready(); return stage.size; }, () => draw(studio, stage));
choices.knows((name) => studio.inputs[name]?.getTracks()[0]?.getSettings().deviceId ?? "");
const monitor = element("monitor", HTMLAudioElement);

/** @param {(keyof Settings)[]} names  what the person changed */
async function chosen(names) {
  keeper.keep(choices.settings);
  const is = (/** @type {(keyof Settings)[]} */ ...some) => some.some((name) => names.includes(name));
  if (is("speaker")) await listen();
  // Nothing is opened that was not open: the browser would ask at a moment when nobody expects it.
  const open = studio.inputs.camera !== null || studio.inputs.microphone !== null;
  if (open && is("camera", "facing", "size", "frameRate")) await studio.inputs.reopenCamera();
  if (open && is("microphone", "processing")) await studio.inputs.reopenMicrophone();
  studio.refresh();
  choices.show();
}

/** Plays what is sent, on the chosen speaker. */
async function listen() {
  const on = input("listen").checked;
  monitor.srcObject = on ? studio.sound?.stream ?? null : null;
  if ("setSinkId" in monitor) await monitor.setSinkId(choices.settings.speaker).catch(() => undefined); // gone: the system's
  if (monitor.srcObject) await monitor.play();
}

async function openDevices() {
  await studio.open();
  await choices.refresh();
  button("flip").hidden = choices.cameras < 2 || !matchMedia("(pointer: coarse)").matches;
}

function wire() {
  button("live").addEventListener("click", async () => {
    if (studio.target === null && !html("key-card").hidden) await useKey();
    await studio.live();
    await choices.refresh();
  });
  button("stop").addEventListener("click", () => studio.stop());
  button("open").addEventListener("click", () => void openDevices());
  button("retry").addEventListener("click", () => void openDevices());
  button("mute").addEventListener("click", () => studio.mute(!studio.muted));
  button("hide").addEventListener("click", () => studio.hide(!studio.hidden));
  button("share").addEventListener("click", async () => {
    if (studio.inputs.screen) return studio.inputs.unshareScreen();
    await studio.openSound();
    await studio.inputs.shareScreen();
  });
  button("flip").addEventListener("click", () => {
    choices.choose({ camera: "", facing: choices.settings.facing === "user" ? "environment" : "user" });
  });
  input("listen").addEventListener("change", () => void listen());
  element("key-card", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void useKey();
  });
  button("key-forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEPT);
    studio.target = null;
    showWatch(null);
    showKey();
    input("key").focus();
  });
  button("language").addEventListener("click", changeLanguage);
  if (!("mediaDevices" in navigator) || !("getDisplayMedia" in navigator.mediaDevices)) button("share").hidden = true;
  navigator.mediaDevices?.addEventListener("devicechange", () => void choices.refresh());
  addEventListener("hashchange", () => { if (!studio.isOn) void find(); });
  new Meter(() => ({
    level: studio.sound?.level() ?? -Infinity, muted: studio.muted, missing: studio.inputs.microphone === null,
    asleep: !studio.sound?.running,
  }));
  for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => void studio.sound?.resume());
  setInterval(() => tick(studio), 250);
  setInterval(() => { if (studio.isOn) void relay?.look(); }, 5000);
}

/** Where this page sends to, as its address says. */
async function find() {
  const said = decodeURIComponent(location.hash.slice(1));
  const key = parseKey(said) ? said : sessionStorage.getItem(KEPT) ?? "";
  if (parseKey(key)) {
    // Addresses are shown to audiences, kept in histories, and copied: the key does not stay there.
    history.replaceState(null, "", location.pathname + location.search);
    input("key").value = key;
    return useKey();
  }
  if (inConsole() && said) return useChannel(said);
  showKey();
}

/** @param {string} id */
async function useChannel(id) {
  try {
    studio.target = await fromConsole(id);
  } catch (error) {
    return refused(error);
  }
  element("home", HTMLAnchorElement).href = `/#/channels/${encodeURIComponent(id)}`;
  keeper = new Keeper(true);
  /** @type {import("./settings.js").Profile} */
  const profile = await keeper.load().catch(() => ({})); // without it the settings of this browser do
  if (profile["broadcast"]) choices.replace(understood(profile["broadcast"]));
  relay ??= new Relay(studio.target, keeper, profile);
  showWatch(studio.target);
  showKey();
}

async function useKey() {
  try {
    studio.target = await fromKey(input("key").value);
  } catch (error) {
    return refused(error);
  }
  sessionStorage.setItem(KEPT, input("key").value.trim());
  studio.notice = null;
  showWatch(inConsole() ? null : studio.target);
  showKey();
  draw(studio, stage);
}

/** @param {unknown} error */
function refused(error) {
  if (!(error instanceof NoTarget)) throw error;
  const { word, reason } = error;
  studio.notice = input("key").value || word !== "key.wrong" ? { word, fill: { reason } } : { word: "key.missing" };
  showKey();
  draw(studio, stage);
  input("key").focus();
}

function showKey() {
  const { target } = studio;
  html("key-card").hidden = target?.ours === true;
  html("key-entry").hidden = target !== null;
  html("key-used").hidden = target === null;
  say("key-words", target ? t("key.using", { name: target.name }) : "");
  html("home").hidden = !inConsole();
  title();
}

function title() {
  const name = studio.target?.ours ? studio.target.name : t("page.title");
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
    draw(studio, stage);
  });
  await find();
  await choices.refresh();
  // Whoever has said yes before is not asked for a click.
  if (await isGranted("camera") && await isGranted("microphone")) await openDevices();
}

await begin();
