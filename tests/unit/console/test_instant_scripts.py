"""Modules of the instant player, executed with node: FLV, codec names, playout delay and sound queue."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from gateway.formats.flv import muxer
from gateway.media import codecs
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from tests.support.builders import AVCC
from tests.support.node import CONSOLE, run

OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"
HVCC = b"\x01" + bytes.fromhex("0408000000" + "9d0800000000" + "78") + b"\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\x00"
TRACKS = {
    "avc1": MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC),
    "hvc1": MediaTrack(Kind.VIDEO, Codec.H265, 1000, HVCC),
    "av01": MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\x25\xcc\x00"),
    "vp09": MediaTrack(Kind.VIDEO, Codec.VP9, 1000, b"\x02\x1f\xa2\x02\x02\x02\x00\x00"),
    "mp4a": MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90"),
    "Opus": MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, OPUS_HEAD),
    ".mp3": MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b""),
}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# ---- FLV ---------------------------------------------------------------------------------------

_EVENTS = f'const {{ eventsOf }} = await import("{(CONSOLE / "players/flv-demuxer.js").as_uri()}");'
_DEMUX = """
const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const plain = (event) => event.kind === "head" ? event : event.kind === "config"
  ? { ...event, config: Buffer.from(event.config).toString("base64") }
  : { ...event, data: Buffer.from(event.data).toString("base64") };
const all = bytes(input.data);
out(input.cuts.map((cut) => {
  const tags = new FlvTags();
  const events = [];
  for (let at = 0; at < all.length; at += cut) events.push(...eventsOf(tags.push(all.slice(at, at + cut))));
  return events.map(plain);
}));
"""


def stream(*pairs: tuple[str, str], begin: int = 0) -> tuple[bytes, list[dict[str, Any]]]:
    """FLV as the gateway sends it for these codec pairs in turn, and the expected events."""
    data, events = muxer.file_header(True, True), [{"kind": "head", "video": True, "audio": True}]
    time = begin
    for video, audio in pairs:
        tracks = Tracks(TRACKS[video], TRACKS[audio], metadata={"encoder": "x"})
        data += muxer.metadata_tag(tracks, time) + muxer.sequence_headers(tracks, time)
        for name in (video, audio):
            if body := muxer.track_body(TRACKS[name]):
                config = body[2:] if name == "mp4a" else body[5:]
                kind = TRACKS[name].kind.value
                events.append({"kind": "config", "track": kind, "codec": name, "config": b64(config)})
        for number in range(3):
            for name in (video, audio):
                cts = 80 if name in ("avc1", "hvc1") and number == 1 else 0
                key = number == 0 or name == audio
                unit = AccessUnit(TRACKS[name], time, cts, key, 0.0, f"{name}{number}".encode() * (number + 1))
                data += muxer.unit_tag(unit)
                frame = {"kind": "frame", "track": unit.track.kind.value, "codec": name, "key": key}
                events.append(frame | {"dts": time, "pts": time + cts, "data": b64(unit.payload)})
            time += 40
        data += muxer.timed_tag(TimedData(time, Script("onCuePoint", b"\x05")))
    return data, events


@pytest.mark.parametrize(
    "pairs",
    [
        [("avc1", "mp4a")],
        [("hvc1", "Opus")],
        [("av01", ".mp3")],
        [("vp09", "Opus")],
        [("avc1", "mp4a"), ("av01", "Opus")],
    ],
)
def test_the_demuxer_reads_the_gateways_flv_in_pieces_of_any_size(pairs: list[tuple[str, str]]) -> None:
    data, events = stream(*pairs)
    cuts = [len(data), 1, 7, 64]
    told = run("players/flv-tags.js", "FlvTags", _EVENTS + _DEMUX, {"data": b64(data), "cuts": cuts})
    for cut, read in zip(cuts, told, strict=True):
        assert read == events, cut


def test_timestamps_continue_after_the_32_bit_wrap() -> None:
    data, events = stream(("avc1", "mp4a"), begin=2**32 - 40)
    read = run("players/flv-tags.js", "FlvTags", _EVENTS + _DEMUX, {"data": b64(data), "cuts": [len(data)]})[0]
    # The sequence headers come first, so the counting begins below the limit.
    assert [event["pts"] for event in read if event["kind"] == "frame"] == [e["pts"] for e in events if "pts" in e]


_HOSTILE = """
let [read, refused] = [0, 0];
for (const text of input) {
  const data = new Uint8Array(Buffer.from(text, "base64"));
  const tags = new FlvTags();
  try {
    for (let at = 0; at < data.length; at += 97) read += eventsOf(tags.push(data.slice(at, at + 97))).length;
  } catch (error) {
    if (!(error instanceof FlvError)) throw error;
    refused++;
  }
}
out({ read, refused });
"""


def test_invalid_flv_raises_only_an_flv_error() -> None:
    chance = random.Random(7)
    data, _ = stream(("avc1", "mp4a"), ("hvc1", "Opus"))
    inputs = [chance.randbytes(chance.randrange(400)) for _ in range(200)]
    for _ in range(600):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        inputs.append(bytes(broken[: chance.randrange(len(broken))]))
    # A tag that claims 16 MB and never comes.
    inputs.append(data + b"\x09\xff\xff\xff" + bytes(7) + bytes(2000))
    told = run("players/flv-tags.js", "FlvTags, FlvError", _EVENTS + _HOSTILE, [b64(one) for one in inputs])
    assert told["refused"] > 200
    assert told["read"] > 1000


# ---- codecs ------------------------------------------------------------------------------------

_CONFIGS = """
out(input.map(([codec, config, video]) => {
  const made = (video ? videoConfig : audioConfig)(codec, new Uint8Array(Buffer.from(config, "base64")));
  return made && { ...made, description: made.description ? Buffer.from(made.description).toString("base64") : null };
}));
"""


def configured(*records: tuple[str, bytes]) -> list[dict[str, Any] | None]:
    asked = [(codec, b64(config), TRACKS[codec].kind is Kind.VIDEO) for codec, config in records]
    made: list[dict[str, Any] | None] = run("players/codec-config.js", "videoConfig, audioConfig", _CONFIGS, asked)
    return made


def test_decoder_configurations_use_the_codec_strings_of_the_gateway() -> None:
    bodies = {name: muxer.track_body(track)[2 if name == "mp4a" else 5 :] for name, track in TRACKS.items()}
    made = dict(zip(bodies, configured(*bodies.items()), strict=True))
    for name, track in TRACKS.items():
        config = made[name]
        assert config is not None
        if name == "vp09":  # the optional fields are left out
            assert codecs.codec_string(track).startswith(config["codec"])
        elif name != ".mp3":
            assert config["codec"].lower() == codecs.codec_string(track).lower()
        described = name in ("avc1", "hvc1", "mp4a", "Opus")
        assert config["description"] == (b64(bodies[name]) if described else None), name
    assert (made["mp4a"] or {})["sampleRate"] == 48000
    assert (made["mp4a"] or {})["numberOfChannels"] == 2


def test_aac_configurations_give_sample_rate_and_channels() -> None:
    # 44.1 kHz mono; HE-AAC signalled as such; a rate of its own (48,001 Hz); eight channels
    made = configured(
        ("mp4a", b"\x12\x08"), ("mp4a", b"\x2b\x11\x88"), ("mp4a", b"\x17\x80\x5d\xc0\x90"), ("mp4a", b"\x11\xb8")
    )
    told = [(c["codec"], c["sampleRate"], c["numberOfChannels"]) for c in made if c]
    assert told == [("mp4a.40.2", 44100, 1), ("mp4a.40.5", 24000, 2), ("mp4a.40.2", 48001, 2), ("mp4a.40.2", 48000, 8)]


def test_broken_codec_headers_give_no_configuration() -> None:
    assert configured(("avc1", b"\x01"), ("hvc1", HVCC[:20]), ("av01", b""), ("mp4a", b""), ("mp4a", b"\x17"),
                      ("mp4a", b"\x16\x90"), ("Opus", b"OpusHead")) == [None] * 7  # fmt: skip


# ---- the delay ---------------------------------------------------------------------------------

_DELAY = """
const playout = new PlayoutDelay();
out(input.map(([kind, time, lateness]) => {
  if (kind === "restart") playout.restart();
  else if (kind === "forget") playout.forget("audio");
  else playout.note(kind, lateness, time + lateness);
  return playout.value;
}));
"""


def delays(*course: tuple[str, float, float]) -> list[float]:
    """The playout delay after each frame. course: kind, timestamp and lateness of each frame, milliseconds."""
    told: list[float] = run("players/playout-delay.js", "PlayoutDelay", _DELAY, course)
    return told


def pictures(seconds: float, lateness: Any, begin: float = 0) -> list[tuple[str, float, float]]:
    return [("video", begin + 33.3 * i, lateness(i)) for i in range(int(seconds * 30))]


def test_steady_arrivals_need_only_a_short_delay() -> None:
    told = delays(*pictures(20, lambda i: 5000 + i % 4))
    assert told[0] == pytest.approx(5053, abs=2), "begins with 40 ms, a class of the histogram and the margin"
    assert told[-1] <= 5020
    assert max(told) <= 5055


def test_irregular_arrivals_raise_the_delay_and_steady_ones_lower_it_slowly() -> None:
    rough = pictures(10, lambda i: 100 + (150 if i % 5 == 0 else 0))
    told = delays(*rough, *pictures(30, lambda i: 100, begin=10_000))
    assert 250 <= told[299] <= 275
    assert told[299] - told[329] <= 61, "60 ms in a second"
    assert told[-1] <= 120


def test_a_few_late_pictures_do_not_raise_the_delay() -> None:
    told = delays(*pictures(30, lambda i: 100 + (400 if i % 60 == 0 else 0)))
    assert told[-1] <= 120


def test_the_delay_never_exceeds_its_limit() -> None:
    told = delays(*pictures(20, lambda i: 100 + (i % 2) * 20_000))
    assert told[-1] <= 100 + 520


def test_the_slower_track_determines_the_delay_until_it_is_forgotten() -> None:
    both = [(kind, at, late + (120 if kind == "audio" else 0)) for _, at, late in pictures(15, lambda i: 50)
            for kind in ("video", "audio")]  # fmt: skip
    told = delays(*both, ("forget", 0, 0), *pictures(10, lambda i: 50, begin=15_000))
    assert 170 <= told[len(both) - 1] <= 195
    assert told[-1] <= 70


def test_the_delay_follows_clock_drift_and_a_restarted_publisher() -> None:
    drift = delays(*pictures(60, lambda i: i * 0.01))
    assert drift[-1] <= 18 + 60 + 20
    again = delays(*pictures(5, lambda i: 9000), ("restart", 0, 0), *pictures(1, lambda i: 50, begin=6000))
    assert again[-1] <= 50 + 55


# ---- sound -------------------------------------------------------------------------------------

_SOUND = """
const rate = 48000, block = 128, piece = 1024;
const queue = new SoundQueue(rate);
let sent = 0;                  // samples
let lost = input.lost ?? [];   // numbers of the pieces that never come
const heard = [];
const told = [];
for (let n = 0; n < input.seconds * rate / block; n++) {
  const now = n * block / rate;
  while (sent / rate < now + input.early && !(input.stop && now > input.stop[0] && now < input.stop[1])) {
    const at = sent;
    const samples = Float32Array.from({ length: piece }, (_, i) => Math.sin((at + i) * 2 * Math.PI * 440 / rate));
    if (!lost.includes(at / piece)) queue.push(at / rate + (input.round ? 0.0004 : 0), [samples]);
    sent += piece;
  }
  const output = [new Float32Array(block), new Float32Array(block)];
  const delay = input.delays.findLast(([from]) => from <= now)[1];
  queue.read(output, now - delay);
  heard.push(...output[0]);
  told.push([now - delay - queue.time, queue.playing, queue.ahead, queue.missing]);
}
let [step, silent] = [0, 0];
for (let i = 1; i < heard.length; i++) {
  step = Math.max(step, Math.abs(heard[i] - heard[i - 1]));
  if (i > rate * 0.5 && Math.abs(heard[i]) < 1e-4 && Math.abs(heard[i - 1]) < 1e-4) silent++;
}
const [error, playing, ahead, missing] = told.at(-1);
out({ step, silent: silent / rate, error, playing, ahead, missing,
  worst: Math.max(...told.slice(-600).map(([error]) => Math.abs(error))), most: Math.max(...told.map((t) => t[2])) });
"""
SMOOTH = 0.08  # the largest difference of two samples of the tone is 0.0576; corrections may add a little


def sounded(seconds: float, delays: list[tuple[float, float]], early: float = 0.05, **more: Any) -> dict[str, Any]:
    """Plays a tone. delays: (start, delay), seconds. early: how long before its time each piece arrives."""
    told: dict[str, Any] = run(
        "players/sound-queue.js", "SoundQueue", _SOUND, {"seconds": seconds, "delays": delays, "early": early} | more
    )
    return told


def test_sound_is_played_at_its_time_without_a_gap() -> None:
    told = sounded(5, [(0, 0.1)])
    assert told["playing"]
    assert abs(told["error"]) < 0.004
    assert told["step"] < SMOOTH
    assert told["silent"] == told["missing"] == 0


def test_timestamps_rounded_to_milliseconds_cause_no_gap() -> None:
    told = sounded(5, [(0, 0.1)], round=True)
    assert told["step"] < SMOOTH
    assert told["missing"] == 0


@pytest.mark.parametrize("after", [0.03, 0.17, 0.2])
def test_a_change_of_the_delay_causes_no_audible_click(after: float) -> None:
    told = sounded(6, [(0, 0.1), (2, after)], early=0.1)
    assert told["playing"]
    assert told["worst"] < 0.016
    assert told["step"] < SMOOTH
    assert told["silent"] < 0.001


def test_a_large_change_of_the_delay_is_one_jump() -> None:
    told = sounded(6, [(0, 0.8), (2, 0.1)], early=0.1)
    assert told["worst"] < 0.016
    assert told["step"] < SMOOTH


def test_sound_fades_out_at_a_gap_and_continues_in_time() -> None:
    told = sounded(6, [(0, 0.1)], stop=[2, 3])
    assert told["playing"]
    assert told["worst"] < 0.016
    assert told["step"] < SMOOTH
    assert 0 < told["missing"] < 1.1


def test_a_lost_piece_is_replaced_by_silence_of_equal_length() -> None:
    told = sounded(5, [(0, 0.1)], lost=[150, 151])
    assert told["playing"]
    assert told["silent"] == pytest.approx(2 * 1024 / 48000, abs=0.001)
    assert abs(told["error"]) < 0.013


def test_the_sound_queue_is_bounded_if_it_is_not_read_in_time() -> None:
    told = sounded(4, [(0, 50)], early=30)
    assert told["most"] <= 2
    assert not told["playing"]


_DECODED = """
const [frames, channels] = [4, input.channels];
const value = (channel, at) => (channel + 1) / 8 + at / 64;
function sound() {
  const { format, only } = input;
  return { format, numberOfChannels: channels, numberOfFrames: frames, copyTo(to, { planeIndex, format }) {
    if (only && format !== "f32-planar") throw new Error("only f32-planar");
    asked.push(format);
    const scale = format === "s32" ? 2 ** 31 : 1;
    for (let i = 0; i < to.length; i++) {
      to[i] = scale * (format === "f32-planar" ? value(planeIndex, i) : value(i % channels, Math.floor(i / channels)));
    }
  } };
}
const asked = [];
const found = [stereo(sound()), stereo(sound())].map((all) => all.map((samples) => [...samples]));
out({ found, asked });
"""


@pytest.mark.parametrize("only", [False, True], ids=["all conversions", "f32-planar only"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("form", ["f32-planar", "f32", "s16"])
def test_decoded_sound_is_read_in_each_form(form: str, channels: int, only: bool) -> None:
    """WebCodecs demands the conversion to f32-planar only. WebKitGTK 2.50 crashes where nothing is to be converted."""
    given = {"format": form, "channels": channels, "only": only}
    told = run("players/sound-player.js", "stereo", _DECODED, given)
    plain = [[(channel + 1) / 8 + at / 64 for at in range(4)] for channel in range(min(3, channels))]
    if channels == 6:
        plain = [[own + 0.7 * centre for own, centre in zip(one, plain[2], strict=True)] for one in plain[:2]]
    for found in told["found"]:
        assert [pytest.approx(one, abs=1e-6) for one in plain] == found
    assert (form in told["asked"]) is (only and form == "f32-planar")


_INTERRUPTED = """
const calls = [];
globalThis.document = new EventTarget();
globalThis.GainNode = class { gain = { setTargetAtTime() {} }; connect() {} };
globalThis.AudioContext = class {
  state = "interrupted"; currentTime = 0; audioWorklet = { addModule: async () => undefined };
  async resume() { calls.push("resume"); }
};
globalThis.AudioWorkletNode = class { port = {}; connect() {} };
globalThis.EncodedAudioChunk = class {};
globalThis.AudioDecoder = class {
  decodeQueueSize = 0;
  constructor({ output }) { this.output = output; }
  configure() {}
  decode() {
    const form = { format: "f32-planar", sampleRate: 48000, numberOfChannels: 1, numberOfFrames: 4 };
    this.output({ ...form, copyTo() {}, close() {} });
  }
};
const player = new SoundPlayer({ ready() {}, delay: () => 0, failed() {}, broken(error) { throw error; } });
player.configure({});
player.volume(1);
player.push({ pts: 0, data: null });
document.dispatchEvent(new Event("pointerdown"));
out(calls);
"""


def test_a_tap_lets_sound_go_on_that_a_phone_call_has_interrupted() -> None:
    """Safari's state of the context is `interrupted` then, and stays so without a gesture."""
    assert run("players/sound-player.js", "SoundPlayer", _INTERRUPTED) == ["resume"]
