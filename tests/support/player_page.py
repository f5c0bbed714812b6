"""Runs `page.js` of the player pages with node, on simulated time, with an element and engines that the test moves."""

from typing import Any

from tests.support.node import CONSOLE, run

# The globals of a browser that the modules use, and modules that need a real document.
WORLD = """
const { registerHooks } = await import("node:module");
const anything = () => new Proxy({}, { get: () => () => undefined });
let now = 0;
const timers = new Map();
let lastTimer = 0;
function timer(run, ms = 0, every = null) {
  timers.set(++lastTimer, { run, at: now + ms, every });
  return lastTimer;
}
globalThis.setTimeout = (run, ms) => timer(run, ms);
globalThis.setInterval = (run, ms) => timer(run, ms, ms);
globalThis.clearTimeout = globalThis.clearInterval = (id) => timers.delete(id);
Object.defineProperty(globalThis, "performance", { value: { now: () => now } });
Date.now = () => 1.7e12 + now;
Math.random = () => 0.5;
async function settled() { for (let n = 0; n < 8; n++) await new Promise((done) => setImmediate(done)); }
async function pass(seconds) {
  const end = now + seconds * 1000;
  for (;;) {
    await settled();
    const [id, next] = [...timers].reduce((a, b) => b[1].at < a[1].at ? b : a, [0, { at: Infinity }]);
    if (next.at > end) break;
    now = Math.max(now, next.at);
    if (next.every === null) timers.delete(id);
    else next.at = now + next.every;
    next.run();
  }
  now = end;
}
const fakes = {
  "./view.js": "export class View {}",
  "./report.js": "export const Report = class { constructor() { return globalThis.anything(); } };",
  "./rewind-bar.js": "export class RewindBar { constructor(go, live) { Object.assign(globalThis.bar, { go, live }); "
    + "return new Proxy(this, { get: () => () => undefined }); } }",
  "./hls.min.js": "export default globalThis.Hls;",
};
globalThis.anything = anything;
globalThis.bar = {};
const asModule = (code) => `data:text/javascript,${encodeURIComponent(code)}`;
registerHooks({ resolve: (name, context, next) =>
  name in fakes ? { url: asModule(fakes[name]), shortCircuit: true } : next(name, context) });
const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.document = Object.assign(new EventTarget(), { hidden: false });
globalThis.location = new URL(`http://media.test/channel/${input?.query ?? ""}`);
globalThis.HTMLMediaElement = { HAVE_CURRENT_DATA: 2, HAVE_FUTURE_DATA: 3 };
const turn = (type) => page.dispatchEvent(Object.assign(new Event(type), { persisted: true }));
/** The viewer leaves for another page, and the browser keeps this one; the viewer comes back. */
const [leaves, returns] = [() => turn("pagehide"), () => turn("pageshow")];
const reported = [];
globalThis.reportError = (error) => reported.push(error.message);

/** A media element: `play`, `pause` and `load` change it and send events as the HTML standard says. */
class Video extends EventTarget {
  paused = true; ended = false; seeking = false; currentTime = 0; readyState = 0; videoWidth = 640; forbidden = false;
  buffered = { length: 0 };
  emit(type) { this.dispatchEvent(new Event(type)); }
  async play() {
    if (this.forbidden) throw new DOMException("", "NotAllowedError");
    if (!this.paused) return;
    this.paused = false;
    this.emit("play");
  }
  pause() {
    if (this.paused) return;
    this.paused = true;
    this.emit("pause");
  }
  load() { Object.assign(this, { paused: true, currentTime: 0, readyState: 0 }); }
}
const video = new Video();
const shown = [];
const silent = ["about", "uses", "poster", "rewinds", "hold", "notice", "facts", "onRetry"];
const view = Object.assign(Object.fromEntries(silent.map((name) => [name, () => undefined])), {
  video, state: "connecting", controls: anything(), captions: anything(),
  show(state) { view.state = state; if (shown.at(-1) !== state) shown.push(state); },
  async play() { try { await video.play(); } catch { view.show("blocked"); } },
});

/** The gateway: its status, or none if it is "away", or no answer at all if it is "silent". */
const gateway = { is: "there", asked: 0, status: {
  live: true, state: "live", outputs: ["a", "b"], ready: ["a", "b"], name: "x", rewind: 3600, oldest: 1.6e12,
} };
globalThis.fetch = async (url, { signal }) => {
  gateway.asked++;
  if (gateway.is === "there") return { ok: true, status: 200, json: async () => structuredClone(gateway.status) };
  if (gateway.is === "away") return { ok: false, status: 503 };
  return new Promise((_, failed) => signal.addEventListener("abort", () => failed(signal.reason)));
};

/** All engines that were opened, in order. */
const engines = [];
globalThis.opens = (name) => (element, url) => {
  const { promise: outcome, resolve } = Promise.withResolvers();
  const engine = { name, outcome, closed: false, delay: () => 1, end: (why, detail = "") => resolve({ why, detail }),
    newest: 1, times: () => ({ shown: video.currentTime, newest: engine.newest }),
    close() { if (!engine.closed) video.load(); engine.closed = true; } };
  engines.push(engine);
  return engine;
};
const opened = () => engines.map(({ name }) => name).join();
/** Lets the newest engine play for some seconds, as far as the element is not paused. */
async function plays(seconds) {
  await settled();
  if (video.readyState === 0) {
    video.readyState = 4;
    video.emit("canplay");
    await settled();
  }
  for (let at = 0; at < seconds; at += 0.25) {
    if (!video.paused) {
      video.currentTime += 0.25;
      engines.at(-1).newest = video.currentTime + 1;
      video.emit("timeupdate");
    }
    await pass(0.25);
  }
}
const way = (id) => {
  const load = async () => ({ open: opens(id), unsupported: null });
  return { id, label: id, output: id, media: id, load };
};
const ways = [way("a"), way("b")];
fakes["./hls-engine.js"] = "export const rewindEngine = (date) => globalThis.opens(`rewound`);";
"""


def player_page(script: str, query: str = "") -> Any:
    """Runs `script` for a channel that has the ways "a" and "b" and can be rewound. Returns the value given to `out`.

    The script opens the page with `open()`. It has the names of `WORLD`. query: of the address of the page.
    """
    begin = (
        f'const {{ Ways }} = await import("{(CONSOLE / "players/ways.js").as_uri()}");\n'
        'const open = (wanted = "auto") => {\n'
        "  const all = new Ways(ways, wanted, () => true);\n"
        "  const restart = startBest(all, view);\n"
        "  return { ways: all, restart: (id) => { all.wanted = id; restart(); } };\n"
        "};\n"
    )
    return run("players/page.js", "startBest", begin + script, {"query": query}, before=WORLD)
