"""Modules of the player pages and the API page, executed with node: playback rate, qualities, OpenAPI."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gateway.api.openapi import document
from gateway.api.routes import ROUTES
from gateway.protocols.sdp.fragment import parse_fragment
from tests.support.node import CONSOLE, run

_PACE = """
const catchUp = new CatchUp();
const told = [];
let [ahead, now] = [input.ahead, 0];
for (const [seconds, stalls] of input.course) {
  if (stalls) catchUp.stalled(now);
  for (const end = now + seconds; now < end; now += 0.25) {
    const { rate, jump } = catchUp.next(ahead + (input.noise ?? 0) * (Math.round(now * 4) % 2), now);
    ahead -= jump + (rate - 1) * 0.25;
    told.push({ now, rate, jump, ahead, keep: catchUp.keep });
  }
}
out(told);
"""


def pace(ahead: float, *course: tuple[float, bool], noise: float = 0.0) -> list[dict[str, float]]:
    """Simulates a viewer that starts `ahead` seconds behind. course: (seconds, whether they begin with a stall)."""
    told: list[dict[str, float]] = run(
        "players/catchup.js", "CatchUp", _PACE, {"ahead": ahead, "course": course, "noise": noise}
    )
    return told


def rates(told: list[dict[str, float]]) -> list[float]:
    """The playback rates in order, without repetitions."""
    return [rate for rate, _ in itertools.groupby(one["rate"] for one in told)]


def test_a_player_slightly_behind_live_plays_faster_until_it_catches_up() -> None:
    told = pace(2.4, (60, False))
    assert rates(told) == [1, 1.08, 1.04, 1]
    assert 0.3 < told[-1]["ahead"] < 0.5
    assert all(one["jump"] == 0 for one in told)


def test_a_player_close_to_live_keeps_the_normal_rate() -> None:
    assert rates(pace(0.85, (30, False))) == [1]
    assert rates(pace(0.5, (30, False), noise=1.5)) == [1], "a burst is not a delay"


def test_a_player_far_behind_live_jumps_once_and_keeps_a_buffer() -> None:
    told = pace(9.0, (30, False))
    jumps = [one for one in told if one["jump"]]
    assert len(jumps) == 1
    assert jumps[0]["now"] < 2
    assert 0.3 < jumps[0]["ahead"] < 0.6
    assert rates(told) == [1]


def test_stalls_enlarge_the_buffer_and_steady_playback_shrinks_it_again() -> None:
    told = pace(0.3, (5, True), (5, True), (400, False))
    kept = [round(one["keep"], 3) for one in told]
    assert kept[0] == 0.8
    assert max(kept) == 1.2
    assert kept[-1] == 0.4
    assert max(one["keep"] for one in pace(0.3, *[(1, True)] * 30)) == 3


_BREAK = """
const catchUp = new CatchUp();
const told = [];
for (let now = 0; now < 5; now += 0.25) catchUp.next(0.45, now);
const kept = catchUp.keep;
catchUp.stalled(5);
if (input.publisher) catchUp.returned(8);
let ahead = input.ahead;
if (input.publisher) ahead -= catchUp.over(ahead);
catchUp.moves(8);
for (let now = 8; now < 14; now += 0.25) {
  const { rate, jump } = catchUp.next(ahead, now);
  ahead -= jump + (rate - 1) * 0.25;
  told.push({ now, rate, jump, ahead, keep: catchUp.keep - kept });
}
out(told);
"""


def after_a_stop(ahead: float, *, publisher: bool) -> list[dict[str, float]]:
    """Simulates playback after a stop of three seconds, by the publisher or by the viewer's connection."""
    told: list[dict[str, float]] = run(
        "players/catchup.js", "CatchUp", _BREAK, {"ahead": ahead, "publisher": publisher}
    )
    return told


def test_a_player_jumps_over_a_publishers_break_and_keeps_its_buffer_size() -> None:
    told = after_a_stop(3.8, publisher=True)
    assert told[0]["ahead"] == pytest.approx(0.4)
    assert all(one["jump"] == 0 and one["keep"] == 0 for one in told)
    assert after_a_stop(0.5, publisher=True)[0]["ahead"] == 0.5, "where nothing is in excess, nothing is jumped over"


def test_a_player_jumps_over_a_returning_publishers_burst_within_two_seconds() -> None:
    told = after_a_stop(0.5, publisher=True)
    assert not any(one["jump"] for one in told)
    burst = run(
        "players/catchup.js",
        "CatchUp",
        """const catchUp = new CatchUp(); catchUp.stalled(5); catchUp.returned(8); catchUp.moves(8);
        const jumps = []; let ahead = 1.4;
        for (let now = 8; now < 12; now += 0.25) {
          const { jump } = catchUp.next(ahead, now); ahead -= jump; if (jump) jumps.push(now); }
        out({ jumps, ahead });""",
        {},
    )
    assert len(burst["jumps"]) == 1
    assert burst["jumps"][0] < 10
    assert burst["ahead"] == pytest.approx(0.4)


def test_after_a_connection_stop_a_player_jumps_once_and_enlarges_its_buffer() -> None:
    told = after_a_stop(3.8, publisher=False)
    assert [one["now"] < 10 for one in told if one["jump"]] == [True]
    assert told[-1]["ahead"] == pytest.approx(0.8)
    assert told[-1]["keep"] == pytest.approx(0.4)


_CHOICES = """
const format = { media: input.media, others: () => input.others };
const all = addresses(format, {});
const open = addressFor(all, input.wanted);
out({ file: open.file, choices: choices(all, open, input.levels).map((one) => one.id) });
"""
RENDITIONS = [{"id": n, "file": f"../c@{n}/live.flv", "bitrate": 1} for n in ("360p", "720p")]
LADDER = [{"id": n, "file": "index.m3u8", "bitrate": 1} for n in ("auto", "360p", "720p")]
LEVELS = [{"id": n, "height": 0, "bitrate": 1} for n in ("source", "360p", "720p")]


def chosen(wanted: str, others: list[dict[str, Any]], levels: list[dict[str, Any]]) -> tuple[str, list[str]]:
    input = {"media": "live.x", "others": others, "wanted": wanted, "levels": levels}
    said = run("players/quality.js", "addresses, addressFor, choices", _CHOICES, input)
    return said["file"], said["choices"]


def test_renditions_with_own_urls_are_offered_beside_the_source() -> None:
    every = ["source", "720p", "360p"]
    assert chosen("auto", RENDITIONS, []) == ("live.x", every)
    assert chosen("360p", RENDITIONS, []) == ("../c@360p/live.flv", every)
    assert chosen("1080p", RENDITIONS, []) == ("live.x", every), "chosen on another channel"


def test_an_adaptive_playlist_is_offered_first_as_auto() -> None:
    every = ["auto", "source", "720p", "360p"]
    assert chosen("auto", LADDER, LEVELS[1:]) == ("index.m3u8", every)
    assert chosen("360p", LADDER, LEVELS[1:]) == ("index.m3u8", every)
    assert chosen("source", LADDER, LEVELS[:1]) == ("live.x", every)
    assert chosen("1080p", LADDER, LEVELS[1:]) == ("index.m3u8", every)


def test_levels_of_a_single_url_are_offered_with_auto() -> None:
    assert chosen("auto", [], LEVELS) == ("live.x", ["auto", "source", "720p", "360p"])
    assert chosen("auto", [], LEVELS[:1]) == ("live.x", []), "one is no choice"
    assert chosen("auto", [], []) == ("live.x", [])


def test_a_rendition_smaller_than_its_name_has_its_real_height() -> None:
    sizes = [(1280, 720), (1280, 534), (960, 720), (404, 720), (640, 360), (360, 640), (0, 0)]
    given = [{"id": "720p", "width": width, "height": height, "bitrate": 0} for width, height in sizes]
    given += [{"id": name, "width": 480, "height": 270, "bitrate": 0} for name in ("480p", "720p2", "mobile")]
    said = run("players/quality.js", "nameOf", "out(input.map(nameOf));", given)
    assert said == ["720p"] * 4 + ["360p", "640p", "720p", "270p", "270p2", "mobile"]


_SPEC = """
const spec = new Spec(input);
const schemas = (content) => Object.values(content ?? {}).map(({ schema }) => schema);
out(spec.operations.map((o) => ({
  id: o.id,
  answers: o.answers.map(([status, , content]) => [status, schemas(content).map((schema) => spec.kind(schema))]),
  body: schemas(o.body).map((schema) => [spec.kind(schema), spec.example(schema), spec.object(schema) !== null]),
})));
"""


def test_the_api_page_reads_every_operation_with_body_and_answers() -> None:
    described = document(ROUTES, "1.0")
    read = {o["id"]: o for o in run("docs/spec.js", "Spec", _SPEC, described)}
    assert len(read) == sum(len(methods) for methods in described["paths"].values())
    [kind, example, has_fields] = read["post_videostream"]["body"][0]
    assert (kind, has_fields) == ("NewChannel", True)
    assert "outdate" in example
    assert ["200", ["Channel[]"]] in read["get_videostream"]["answers"]
    for operation in read.values():
        for _, kinds in operation["answers"]:
            assert all(kinds), operation


_WAYS = """
globalThis.location = { search: "", href: "http://x/c1/", pathname: "/c1/" };
if (!input.webrtc) delete globalThis.RTCPeerConnection;
else globalThis.RTCPeerConnection = globalThis.VideoDecoder = class {};
globalThis.MediaSource = { isTypeSupported: (type) => !type.includes("hvc1") };
const { Ways, WAYS } = await import(input.module);
const broken = new Set(input.broken ?? []);
const load = (id) => async () => {
  if (broken.has(id)) throw new Error(id);
  return { open: () => null, unsupported: (input.unsupported ?? []).includes(id) ? "no" : null };
};
const ways = new Ways(WAYS.map((way) => ({ ...way, load: load(way.id) })), input.wanted ?? AUTO);
const status = { live: true, outputs: ["flv", "hls", "cmaf"], tracks: [], ...input.status };
const told = [];
for (const failure of [null, ...input.failures ?? []]) {
  const left = failure && ways.failed(WAYS.find(({ id }) => id === failure), false, status);
  const choice = await ways.choose(status);
  told.push(choice.way?.id ?? choice.state);
  if (failure) told.push(left);
}
out(told);
"""


def ways(**given: Any) -> list[Any]:
    """The delivery method that the watch page chooses first, then after each failure, with whether one was left."""
    found: list[Any] = run(
        "players/quality.js", "AUTO", _WAYS, {"module": (CONSOLE / "players/ways.js").as_uri()} | given
    )
    return found


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "wsflv"),
        ({"wanted": "dash"}, "dash"),
        ({"wanted": "gone"}, "wsflv"),
        ({"status": {"outputs": ["cmaf", "hls"]}}, "cmaf"),
        ({"status": {"outputs": ["hls"]}, "wanted": "cmaf"}, "hls"),
        ({"status": {"outputs": []}}, "off"),
        ({"status": {"ready": ["hls"]}}, "hls"),
        ({"status": {"ready": []}}, "starting"),
        ({"status": {"ready": ["flv"]}, "wanted": "hls"}, "starting"),
        ({"status": {"tracks": [{"kind": "video", "codec": "avc1.64001F"}]}}, "wsflv"),
        ({"status": {"tracks": [{"kind": "video", "codec": "hvc1.1.6.L93"}]}}, "codec"),
        ({"status": {"tracks": [{"kind": "audio", "codec": "hvc1 as if"}]}}, "wsflv"),
        ({"unsupported": ["wsflv", "cmaf"]}, "flv"),
        ({"unsupported": ["wsflv", "cmaf", "flv", "hls", "dash"]}, "codec"),
        ({"broken": ["wsflv"]}, "cmaf"),
        ({"broken": ["cmaf"], "status": {"outputs": ["cmaf"]}}, "dash"),
        ({"broken": ["cmaf", "dash"], "status": {"outputs": ["cmaf"]}}, "lost"),
        # Instant: by WebRTC where browser and stream have it, else with WebCodecs; not without being asked for.
        ({"webrtc": True, "status": {"outputs": ["flv", "whep"]}}, "wsflv"),
        ({"webrtc": True, "wanted": "instant", "status": {"outputs": ["flv", "whep"]}}, "whep"),
        ({"webrtc": True, "wanted": "instant", "status": {"outputs": ["flv"]}}, "instant"),
        (
            {"webrtc": True, "wanted": "instant", "unsupported": ["whep"], "status": {"outputs": ["flv", "whep"]}},
            "instant",
        ),
        ({"wanted": "whep", "status": {"outputs": ["flv", "whep"]}}, "wsflv"),
        ({"webrtc": True, "status": {"outputs": ["whep"]}}, "whep"),
    ],
)
def test_the_watch_page_chooses_a_method_by_channel_browser_and_viewer(given: dict[str, Any], chosen: str) -> None:
    assert ways(**given) == [chosen]


def test_a_failed_delivery_method_is_skipped_until_all_have_failed() -> None:
    order = ["wsflv", "cmaf", "flv", "hls", "dash"]
    assert ways(failures=order) == ["wsflv", "cmaf", True, "flv", True, "hls", True, "dash", True, "wsflv", False]


def test_instant_playback_falls_back_to_webcodecs_if_webrtc_fails() -> None:
    given = {"webrtc": True, "wanted": "instant", "status": {"outputs": ["flv", "whep"]}}
    assert ways(failures=["whep"], **given) == ["whep", "instant", True]


_OFFER = "\r\n".join(
    [
        "v=0", "a=group:BUNDLE 0 1", "a=ice-options:trickle", "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:0",
        "a=ice-ufrag:new1", "a=ice-pwd:0123456789abcdefghijkl", "a=rtpmap:96 H264/90000",
        "a=candidate:1 1 udp 1 10.0.0.1 9 typ host",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:1", "a=ice-ufrag:new1", "a=ice-pwd:0123456789abcdefghijkl",
        "a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1", "",
    ]
)  # fmt: skip


def test_an_offer_requests_stereo_exactly_once() -> None:
    script = "const once = withStereo(input); out([once, withStereo(once), withStereo('v=0\\r\\n')]);"
    once, twice, without = run("players/whep-sdp.js", "withStereo", script, _OFFER)
    assert once == twice == _OFFER.replace("useinbandfec=1", "useinbandfec=1;stereo=1")
    assert without == "v=0\r\n"


def test_an_ice_restart_exchanges_credentials_and_candidates_with_the_gateway() -> None:
    sent = run("players/whep-sdp.js", "restartFragment", "out(restartFragment(input));", _OFFER)
    fragment = parse_fragment(sent.encode())
    assert (fragment.ufrag, fragment.password, fragment.candidates) == ("new1", "0123456789abcdefghijkl", ())
    answer = (
        "a=ice-lite\r\nm=video 9 X 96\r\na=ice-ufrag:o\r\na=ice-pwd:o\r\na=candidate:old\r\na=end-of-candidates\r\n"
    )
    answer += "m=audio 9 X 111\r\na=ice-ufrag:o\r\na=ice-pwd:o\r\na=setup:passive\r\n"
    told = "m=video 9 X 96\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=candidate:new\r\na=end-of-candidates\r\n"
    script = "out(restarted(...input));"
    assert run("players/whep-sdp.js", "restarted", script, [answer, told]).splitlines() == [
        "a=ice-lite", "m=video 9 X 96", "a=ice-ufrag:u", "a=ice-pwd:p", "a=candidate:new", "a=end-of-candidates",
        "m=audio 9 X 111", "a=ice-ufrag:u", "a=ice-pwd:p", "a=setup:passive",
    ]  # fmt: skip
    refused = "try { restarted(...input); out(''); } catch (error) { out(error.message); }"
    assert run("players/whep-sdp.js", "restarted", refused, [answer, "m=video 9 X 96"]) != ""


def test_preview_pictures_of_a_film_are_parsed_and_selected_by_time() -> None:
    text = (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nthumbnails.jpg#xywh=0,0,160,90\n\n"
        "01:00:02.000 --> 01:00:04.500\nthumbnails.jpg#xywh=160,0,160,90\n\n"
        "00:00:04.000 --> 00:00:06.000\nhttps://elsewhere/x.jpg#xywh=0,0,1,1\n"
    )
    script = """
      const all = parse(input);
      const at = [-1, 1, 9999].map((at) => previewAt(all, at).x);
      out({ all, at, none: parse("no list"), some: chapters(all, 1).length });
    """
    found = run("players/webvtt.js", "parse, previewAt, chapters", script, text)
    assert [(one["start"], one["end"], one["x"], one["file"]) for one in found["all"]] == [
        (0, 2, 0, "thumbnails.jpg"), (3602, 3604.5, 160, "thumbnails.jpg"),
    ]  # fmt: skip
    assert (found["at"], found["none"], found["some"]) == ([0, 0, 160], [], 1)


_VOLUME = """
class Video extends EventTarget {
  #muted = false;
  volume = 1;
  get muted() { return this.#muted; }
  set muted(muted) { this.#muted = muted; this.dispatchEvent(new Event("volumechange")); }
  async play() { if (!this.#muted || input.forbidden) throw new DOMException("", "NotAllowedError"); }
}
const { keep, recall } = await import(input.memory);
for (const [name, value] of Object.entries(input.kept ?? {})) keep(name, value);
const video = new Video();
const leave = [];
globalThis.addEventListener = (type, call) => { if (type === "pagehide") leave.push(call); };
const volume = new Volume(video, false);
const plays = input.plays ? await volume.play() : null;
if (input.toggles) volume.toggle();
if (input.leaves) { video.volume = 0.5; leave.forEach((call) => call()); }
out([plays, video.muted, video.volume, recall(input.leaves ? "volume" : "muted")]);
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"plays": True, "kept": {"muted": "no"}}, [True, True, 1, "no"]),
        ({"plays": True, "kept": {"muted": "no"}, "forbidden": True}, [False, True, 1, "no"]),
        ({"plays": True, "toggles": True}, [True, False, 1, "no"]),
        ({"toggles": True}, [None, True, 1, "yes"]),
        ({"toggles": True, "kept": {"muted": "yes", "volume": "0"}}, [None, False, 1, "no"]),
        ({"leaves": True}, [None, False, 0.5, "0.5"]),  # before the event of the change
    ],
    ids=["muted by the browser", "a click is needed", "heard after it", "muted by the viewer", "heard again", "left"],
)
def test_only_muting_by_the_viewer_is_remembered(given: dict[str, Any], expected: list[Any]) -> None:
    memory = (CONSOLE / "players/memory.js").as_uri()
    assert run("players/volume.js", "Volume", _VOLUME, given | {"memory": memory}) == expected


@pytest.mark.parametrize(
    ("key", "code", "expected"),
    [
        ("M", "KeyM", "m"),
        ("ь", "KeyM", "m"),  # Russian
        ("m", "Semicolon", "m"),  # French
        ("é", "Digit2", "é"),
        (" ", "Space", " "),
        ("ArrowUp", "ArrowUp", "arrowup"),
    ],
)
def test_keys_of_layouts_without_latin_letters_count_by_their_place(key: str, code: str, expected: str) -> None:
    assert run("players/keyboard.js", "keyOf", "out(keyOf(input));", {"key": key, "code": code}) == expected
