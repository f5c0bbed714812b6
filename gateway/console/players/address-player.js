/** The player page for an HLS address of another server, such as Amazon IVS: `/player.html?url=…`. */

import { titleBar } from "./bar.js";
import { h } from "./dom.js";
import { hlsEngine, unsupported } from "./hls-engine.js";
import { languageTag, speak } from "./language.js";
import { t } from "./words.js";

/** @typedef {import("./words.js").Word} Word */

const PAUSES = [2, 4, 8, 15]; // seconds before the next try; the last one is repeated

// The gateway has checked the address, and the page's policy allows requests only to the same hosts.
const url = new URL(location.href).searchParams.get("url") ?? "";
const video = h("video", { controls: true, playsinline: true, autoplay: true });
video.muted = true; // browsers play by themselves only without sound
const title = h("h1");
const state = h("p", { role: "status" });
// The stream of another server has no status.
const status = { live: true, outputs: [] };
let word = /** @type {Word | ""} */ ("state.connecting");
let tries = 0;

document.body.append(titleBar(title), h("main", { class: "address-player" }, video, state));
speak(() => {
  document.documentElement.lang = languageTag();
  document.title = `${t("page.player")} · Millrace`;
  title.textContent = t("page.player");
  video.setAttribute("aria-label", t("page.video"));
  say(word);
});

/** @param {Word | ""} to */
function say(to) {
  word = to;
  state.textContent = to && t(to);
}

/** Plays until the stream ends, and tries again after each failure. */
async function play() {
  const engine = hlsEngine(true)(video, url, Date.now, { status, renew: async () => null });
  const { why } = await engine.outcome;
  engine.close();
  if (why === "codec" || why === "denied") return say(`state.${why}`);
  if (why === "ended") say("state.ended");
  else say("address.waiting");
  setTimeout(play, 1000 * (PAUSES[Math.min(tries++, PAUSES.length - 1)] ?? 0));
}

video.addEventListener("playing", () => {
  tries = 0;
  say("");
});
video.addEventListener("waiting", () => { if (!word) say("state.stalled"); });
if (unsupported === null) void play();
else say("state.codec");
