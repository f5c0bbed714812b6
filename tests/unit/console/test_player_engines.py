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
  static DefaultConfig = {
    loader: class { load(context, config) { this.config = config; } },
    audioStreamController: class { loadFragment(...asked) { this.asked = asked; } getNextPart() { return 1; } },
  };
  static isSupported = () => true;
  levels = []; currentLevel = -1; subtitleTracks = []; on = {};
  constructor(config) {
    [this.config, globalThis.hls] = [config, this];
    this.heard = {};
    this.on = (event, run) => { this.heard[event] = run; };
    this.once = (event, run) => this.on(event, (...told) => { this.on(event, () => {}); run(...told); });
  }
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


_HELD = """
hlsEngine(true)(video, "http://media.test/master.m3u8", Date.now, { status: {}, renew: async () => null });
const level = { details: { lastPartSn: 7, lastPartIndex: 1, targetduration: 4 } };
// hls.js requests the next part before it keeps the answer.
hls.trigger("LEVEL_LOADED", { levelInfo: level, details: { lastPartSn: 7, lastPartIndex: 2, targetduration: 4 } });
out(input.map(([msn, part]) => {
  const loader = new hls.config.pLoader();
  loader.load({ levelOrTrack: level, deliveryDirectives: { msn, part } }, { loadPolicy: { maxLoadTimeMs: 1500 } }, {});
  return loader.config.loadPolicy.maxLoadTimeMs;
}));
"""


def test_the_request_for_the_part_after_the_newest_answer_is_held() -> None:
    held, guessed = 10_000, 1500
    parts = [[7, 3], [8, 0], [7, 2], [7, 4], [8, 1]]
    assert run("players/hls-engine.js", "hlsEngine", _HELD, parts, before=_HLS) == [held, held, *[guessed] * 3]


_BEGINS = """
hlsEngine(true)(video, "http://media.test/master.m3u8", Date.now, { status: {}, renew: async () => null });
const segments = [0, 2.5, 5].map((start) => ({ start, end: start + 2.5 }));
const partList = input.keys.map((independent, n) =>
  ({ independent, start: n * 1.25, relurl: `part-${n}`, fragment: segments[n >> 1] }));
Object.assign(video, { buffered: { length: input.begun } });
hls.liveSyncPosition = input.at;
const asked = [];
hls.startLoad = (at) => asked.push(at);
for (let n = 0; n < 2; n++) {
  hls.heard.LEVEL_UPDATED({}, { details: { partList } });
  await Promise.resolve();
}
out(asked);
"""


@pytest.mark.parametrize(
    ("at", "keys", "begun", "asked"),
    [
        (4, [1, 0, 0, 0, 0, 0], 0, [0]),  # the segment of the place has no key frame
        (4, [1, 0, 0, 0, 1, 0], 0, [5.0]),
        (4, [1, 0, 0, 1, 0, 0], 0, []),  # hls.js finds it
        (4, [0, 0, 0, 0, 0, 0], 0, []),
        (4, [1, 0, 0, 0, 0, 0], 1, []),
    ],
)
def test_hls_begins_with_a_key_frame_where_segments_have_none(
    at: float, keys: list[int], begun: int, asked: list[float]
) -> None:
    """Segments are shorter than a group of pictures if a push with shorter ones came before."""
    given = {"at": at, "keys": keys, "begun": begun}
    assert run("players/hls-engine.js", "hlsEngine", _BEGINS, given, before=_HLS) == asked


_LATER = """
hlsEngine(true)(video, "http://media.test/master.m3u8", Date.now, { status: {}, renew: async () => null });
const sound = Object.assign(new hls.config.audioStreamController(), { initPTS: input.known });
sound.loadFragment({ start: 0 }, { details: { partList: input.parts?.map((cc) => ({ fragment: { cc } })) } }, 3);
out(sound.asked !== undefined);
"""


@pytest.mark.parametrize(
    ("known", "parts", "loads"),
    [(["times"], [0, 1], False), (["times", "times"], [0, 1], True), ([], [0], True), ([], None, True)],
)
def test_sound_waits_for_the_times_of_its_pictures(known: list[str], parts: list[int] | None, loads: bool) -> None:
    """The second part is the next one."""
    given = {"known": known, "parts": parts}
    assert run("players/hls-engine.js", "hlsEngine", _LATER, given, before=_HLS) is loads


_FIRST = """
globalThis.HTMLMediaElement = { HAVE_METADATA: 1 };
globalThis.setTimeout = (later) => later();
Object.assign(video, input, { buffered: { length: 1, start: () => 0.133, end: () => 4 } });
"""
_OPEN = {
    "hls-engine.js": ("hlsEngine", 'hlsEngine(false)(video, "http://media.test/live.m3u8", Date.now, { status: {} });'),
    "recorded-source.js": ("open", 'open(video, "http://media.test/index.m3u8", true, 0, () => undefined);'),
}


@pytest.mark.parametrize("module", _OPEN)
@pytest.mark.parametrize(
    ("element", "then"),
    [
        ({"readyState": 1, "currentTime": 0}, 0.143),
        ({"readyState": 1, "currentTime": 3, "seeking": True}, 3),
        ({"readyState": 3, "currentTime": 0}, 0),
    ],
)
def test_an_element_that_has_shown_nothing_goes_to_the_first_media(
    module: str, element: dict[str, object], then: float
) -> None:
    """WebKit tells no `canplay` before them."""
    name, opened = _OPEN[module]
    steps = f"{_FIRST}{opened}\nhls.heard.BUFFER_APPENDED();\nout(video.currentTime);"
    page = 'globalThis.location = new URL("http://media.test/c1/");'
    assert run(f"players/{module}", name, steps, element, before=f"{_HLS}\n{page}") == pytest.approx(then)


@pytest.mark.parametrize(
    ("error", "ready", "why"),
    [(4, 0, "codec"), (4, 1, "lost"), (3, 0, "lost"), (None, 0, "lost")],
)
def test_a_codec_is_missing_only_if_the_element_never_knew_it(error: int | None, ready: int, why: str) -> None:
    before = f"{_HLS}\nglobalThis.MediaError = {{ MEDIA_ERR_SRC_NOT_SUPPORTED: 4 }};"
    given = {"error": error and {"code": error}, "readyState": ready}
    assert run("players/media.js", "failure", "out(failure(input));", given, before=before) == why


# mpegts.js, whose loader the engine gives: `asked` are the bytes that reach it. It reads times as signed.
_MPEGTS = """
const passed = [];
globalThis.mpegts = {
  LoggingControl: {}, Events: {}, ErrorDetails: {}, BaseLoader: class { destroy() {} },
  createPlayer(_, { customLoader }) {
    const loader = new customLoader();
    loader.onDataArrival = (bytes) => passed.push(...tags(new DataView(bytes)));
    return { on() {}, attachMediaElement() {}, load: () => loader.open(), destroy() {} };
  },
};
function* tags(view) {
  for (let at = 0; at < view.byteLength; at += 15 + (view.getUint32(at) & 0xffffff)) {
    if (view.getUint8(at) === 0x46) at += 13;
    const time = view.getUint8(at + 4) << 16 | view.getUint8(at + 5) << 8 | view.getUint8(at + 6);
    yield [view.getUint8(at), time | view.getUint8(at + 7) << 24];
  }
}
globalThis.document = new EventTarget();
const video = Object.assign(new EventTarget(), { buffered: { length: 0 } });
const bytes = Uint8Array.from(input.flv);
globalThis.fetch = async () => new Response(new ReadableStream({ start(all) {
  for (let at = 0; at < bytes.length; at += 700) all.enqueue(bytes.subarray(at, at + 700));
} }));
globalThis.setInterval = () => 0;
"""
_PLAY = """
flvEngine(video, "http://media.test/live.flv", Date.now, { status: { outputs: [] }, renew: async () => null });
while (passed.length < input.count) await new Promise((done) => setImmediate(done));
out(passed);
"""


def test_mpegts_gets_small_times_when_the_clock_of_the_publisher_passes_its_limit() -> None:
    begin = 2**31 - 3000
    times = range(begin, begin + 9000, 500)
    tags = [_tag(kind, time) for time in times for kind in (8, 9)]
    flv = b"FLV\x01\x05\0\0\0\x09\0\0\0\0" + _tag(18, 0) + b"".join(tags)
    given = {"flv": list(flv), "count": 1 + len(tags)}
    told = run("players/flv-engine.js", "flvEngine", _PLAY, given, before=_MPEGTS)
    assert told == [[18, 0]] + [[kind, time - begin] for time in times for kind in (8, 9)]


def _tag(kind: int, time: int) -> bytes:
    """A tag of 200 bytes. kind: 8 for sound, 9 for a picture, 18 for metadata. time: milliseconds."""
    body = (b"\x17\x01" if kind == 9 else b"\xaf\x01").ljust(200, b"x")
    head = bytes([kind]) + len(body).to_bytes(3) + (time & 0xFFFFFF).to_bytes(3) + bytes([time >> 24, 0, 0, 0])
    return head + body + (11 + len(body)).to_bytes(4)
