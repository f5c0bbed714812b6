"""The engines of the player pages, executed with node: what they do with the element, and with what they were told."""

from __future__ import annotations

import pytest

from tests.support.node import run

_WHEP = """
const other = { kind: "the stream of the next engine" };
const video = { srcObject: null };
const engine = whepEngine(video, "http://media.test/whep", Date.now, {});
engine.close();
video.srcObject = other;
await new Promise((done) => setImmediate(done)); // the engine sends its offer after two promises
answered({ ok: true, text: async () => "", headers: new Headers(), url: "http://media.test/whep" });
await new Promise((done) => setImmediate(done));
out(video.srcObject === other);
"""
_WEBRTC = """
globalThis.MediaStream = class { addTrack() {} };
globalThis.RTCPeerConnection = class extends EventTarget {
  localDescription = { sdp: "" };
  addTransceiver() {}
  async createOffer() { return { sdp: "" }; }
  async setLocalDescription() {}
  close() {}
};
let answered;
globalThis.fetch = () => new Promise((done) => { answered ??= done; });
"""


def test_the_late_answer_to_a_closed_webrtc_engine_does_not_take_the_element() -> None:
    assert run("players/whep-engine.js", "whepEngine", _WHEP, before=_WEBRTC) is True


# An element and hls.js, as far as the engine uses them. The playlist has segments of 2 s from the date 0 on.
_HLS = """
const { registerHooks } = await import("node:module");
const code = `export default class Hls {
  static Events = new Proxy({}, { get: (_, name) => name });
  static ErrorDetails = {};
  static ErrorTypes = {};
  static DefaultConfig = { loader: class {} };
  static isSupported = () => true;
  levels = []; currentLevel = -1; subtitleTracks = []; on = {};
  constructor() { globalThis.hls = this; this.heard = {}; this.on = (event, run) => { this.heard[event] = run; }; }
  trigger() {} attachMedia() {} loadSource() {}
  startLoad(at) { this.startedAt = at; }
}`;
registerHooks({ resolve: (name, context, next) => name === "./hls.min.js"
  ? { url: `data:text/javascript,${encodeURIComponent(code)}`, shortCircuit: true } : next(name, context) });
globalThis.document = { createElement: () => ({ canPlayType: () => "maybe" }) };
if (input.native) Object.defineProperty(navigator, "vendor", { value: "Apple" });
const video = Object.assign(new EventTarget(), { currentTime: 0, duration: 1e4, getStartDate: () => new Date(0) });
const fragments = Array.from({ length: 1000 }, (_, n) => ({ start: n * 2, duration: 2, programDateTime: n * 2000 }));
"""
_STEPS = """
const engine = rewindEngine(100_000)(video, "http://media.test/live.m3u8", Date.now, {});
if (input.at === "once") engine.seek(60_000);
if (!input.native) {
  hls.levels = [{ details: { fragments } }];
  hls.heard.LEVEL_UPDATED({}, { details: { fragments } });
  await Promise.resolve();
}
if (input.at === "the playlist") engine.seek(60_000);
video.dispatchEvent(new Event("loadedmetadata"));
out([video.currentTime, input.native ? null : hls.startedAt]);
"""


@pytest.mark.parametrize(
    ("native", "at", "shown", "loaded"),
    [(False, "once", 60, 60), (False, "the playlist", 60, 100), (True, "once", 60, None)],
)
def test_a_step_in_the_time_bar_counts_while_the_rewound_player_opens(
    native: bool, at: str, shown: int, loaded: int | None
) -> None:
    given = {"native": native, "at": at}
    assert run("players/hls-engine.js", "rewindEngine", _STEPS, given, before=_HLS) == [shown, loaded]
