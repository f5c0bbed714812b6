// Plays one live channel in Chromium with players as npm has them: shaka-player (DASH, LL-HLS, HLS with TS), dash.js,
// hls.js (LL-HLS, HLS with TS), mpegts.js (HTTP-FLV, WS-FLV).
//
//   JUDGE_MODULES=folder-of-node_modules node players.mjs http://host:port/id SECONDS CHROMIUM [player,player… [together]]
//
// together: all play at the same time, once, so that each sees a change that comes once.
// JUDGE_KEY=stream key: writes captions, and each player must show them.
// Prints "BROKEN rule: example" and "NOTE name: value" lines; exit 1 where a rule is broken.
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { setTimeout as wait } from "node:timers/promises";

const { JUDGE_MODULES: modules, JUDGE_KEY: key } = process.env;
const require = createRequire(`${modules}/judge.js`);
const puppeteer = require("puppeteer-core");

const PLAYERS = ["shaka-dash", "shaka-hls", "shaka-ts", "dashjs", "hlsjs", "hlsjs-ts", "mpegts", "mpegts-ws"];
const SCRIPTS = {
  "/shaka.js": "shaka-player/dist/shaka-player.compiled.js",
  "/dash.js": "dashjs/dist/modern/umd/dash.all.min.js",
  "/hls.js": "hls.js/dist/hls.js",
  "/mpegts.js": "mpegts.js/dist/mpegts.js",
  "/page.js": null,
};
const START_MILLISECONDS = 6000;
// Share of the time that the picture must go on, and stalls that are allowed once it plays.
const MIN_PROGRESS = 0.85;
const MAX_STALLS = 1;
const CAPTION_MILLISECONDS = 1500;
const MIN_CAPTIONS = 2;

const [base, secondsText, chromium, wantedText, mode] = process.argv.slice(2);
const seconds = Number(secondsText);
const here = path.dirname(new URL(import.meta.url).pathname);
let isBroken = false;

const HTML = `<!doctype html><video id="video" muted autoplay playsinline width="640"></video>
${Object.keys(SCRIPTS)
  .map((name) => `<script src="${name}"></script>`)
  .join("")}`;

function serve(request, response) {
  if (request.url === "/") {
    response.setHeader("Content-Type", "text/html");
    response.end(HTML);
  } else if (request.url in SCRIPTS) {
    const script = SCRIPTS[request.url];
    const file = script ? path.join(modules, "node_modules", script) : path.join(here, "page.js");
    response.setHeader("Content-Type", "text/javascript");
    response.end(fs.readFileSync(file));
  } else {
    response.statusCode = 404;
    response.end();
  }
}

/** Plays for some seconds; what went wrong, or null, and whether it was the time alone. */
async function attempt(browser, origin, player) {
  const page = await browser.newPage();
  const refused = new Set();
  page.on("response", (answer) => {
    if (answer.status() >= 400) refused.add(`${answer.status()} ${answer.url().split("/").slice(-2).join("/")}`);
  });
  try {
    await page.goto(origin);
    await page.evaluate((name, address) => window.start(name, address), player, base);
    await wait(START_MILLISECONDS);
    const before = await page.evaluate(() => window.state());
    await wait(seconds * 1000);
    const after = await page.evaluate(() => window.state());
    const progress = after.time - before.time;
    const stalls = after.stalls - before.stalls;
    const holds = progress > seconds * MIN_PROGRESS && stalls <= MAX_STALLS && after.errors.length === 0
      && !(key && after.captions < MIN_CAPTIONS);
    const captions = key ? `, ${after.captions} captions` : "";
    const words = `${progress.toFixed(1)} of ${seconds} s, ${stalls} stalls, ${after.width}x${after.height}${captions}`;
    const faults = [...after.errors.slice(0, 3), ...[...refused].slice(0, 4)].join("; ");
    console.log(`NOTE ${player}: ${words}`);
    return { fault: holds ? null : `${words}${faults ? `; ${faults}` : ""}`, slow: after.errors.length === 0 };
  } finally {
    await page.close();
  }
}

/** A machine that is busy for a moment stalls a player once; a fault of the stream comes again. */
async function judge(browser, origin, player) {
  let { fault, slow } = await attempt(browser, origin, player);
  if (fault && slow && mode !== "together") ({ fault } = await attempt(browser, origin, player));
  if (fault) {
    isBroken = true;
    console.log(`BROKEN ${player} plays without a fault: ${fault}`);
  }
}

/** Writes numbered captions until the end. */
function writeCaptions() {
  let number = 0;
  return setInterval(async () => {
    const body = JSON.stringify({ text: `caption ${(number += 1)}` });
    const answer = await fetch(`${base}/captions?sign=${key}`, { method: "POST", body });
    if (answer.status !== 202) console.log(`NOTE caption refused: ${answer.status}`);
  }, CAPTION_MILLISECONDS);
}

const server = http.createServer(serve).listen(0, "127.0.0.1");
await new Promise((resolve) => server.on("listening", resolve));
const flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio"];
const wanted = wantedText ? wantedText.split(",") : PLAYERS;
const browsers = [];

/** A page behind another one does not play: players that play together have a browser each. */
async function launch() {
  // Over a pipe: Chromium, which has a session of its own, ends when this process is killed.
  browsers.push(await puppeteer.launch({ executablePath: chromium, headless: true, pipe: true, args: flags }));
  return browsers.at(-1);
}

const writing = key ? writeCaptions() : null;
try {
  const origin = `http://127.0.0.1:${server.address().port}/`;
  if (mode === "together") {
    await Promise.all(wanted.map(async (player) => judge(await launch(), origin, player)));
  } else {
    const browser = await launch();
    for (const player of wanted) await judge(browser, origin, player);
  }
} finally {
  if (writing !== null) clearInterval(writing);
  await Promise.all(browsers.map((browser) => browser.close()));
  server.close();
}
process.exit(isBroken ? 1 : 0);
