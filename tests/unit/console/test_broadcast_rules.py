"""Modules of the broadcaster page, executed with node: bitrate, clocks, close codes, keys and texts."""

from __future__ import annotations

import itertools
import re
from typing import Any

from gateway.protocols.push import AudioConfig, Configured, VideoConfig, read_chunk, read_text
from tests.support.node import CONSOLE
from tests.support.node import run as execute

FOLDER = CONSOLE / "broadcast"
KEY = "70ef9b07-adbe-478d-b098-d7c8efd84a98?sign=1670371200-5db080c8cdca8764de881bc04e61e2b1"


def run(module: str, names: str, script: str, given: Any = None) -> Any:
    """Runs `script` with these names of a broadcaster module. Returns the value given to `out`."""
    page = 'globalThis.location = { pathname: "/broadcast.html" };\nconst given = input;'
    return execute(f"broadcast/{module}", names, script, given, before=page)


# ---- pace --------------------------------------------------------------------------------------

# A road of `given.roads` bit/s for each second; pictures at the pace's bit rate, thirty a second.
_ROAD = """
const pace = new BitrateControl(given.wanted);
let [sent, queued] = [0, 0];
const told = [];
given.roads.forEach((road, second) => {
  let held = 0;
  for (let i = 0; i < 30; i++) {
    queued = Math.max(0, queued - road / 8 / 30);
    if (pace.mustDrop(queued)) held++;
    else { const size = pace.bitrate / 8 / 30; sent += size; queued += size; }
  }
  pace.update(second, sent, queued);
  told.push({ bitrate: pace.bitrate, seconds: pace.seconds(queued), held, slow: pace.slow });
});
out(told);
"""


def pace(wanted: int, *roads: int) -> list[dict[str, Any]]:
    """The state of the bitrate control after each second. roads: the bandwidth in each second, bit/s."""
    told: list[dict[str, Any]] = run("bitrate-control.js", "BitrateControl", _ROAD, {"wanted": wanted, "roads": roads})
    return told


def test_enough_bandwidth_does_not_change_the_bitrate() -> None:
    assert all(not t["slow"] and not t["held"] for t in pace(2_000_000, *[3_000_000] * 30))


def test_low_bandwidth_lowers_the_bitrate_and_keeps_the_queue_short() -> None:
    told = pace(2_500_000, *[3_000_000] * 5, *[800_000] * 25)
    assert told[-1]["slow"]
    assert all(t["seconds"] < 1.6 for t in told)
    assert all(300_000 < t["bitrate"] < 800_000 * 1.2 for t in told[12:]), told[12:]


def test_a_blocked_connection_drops_pictures_and_does_not_queue_them() -> None:
    told = pace(2_500_000, *[3_000_000] * 5, *[0] * 20)
    assert told[-1]["held"] == 30
    assert told[-1]["bitrate"] == 150_000
    # What waited when the road was closed is all that waits: a second of it, at the bit rate of that time.
    assert told[-1]["seconds"] * told[-1]["bitrate"] < 2_500_000 * 1.6


def test_the_bitrate_rises_slowly_up_to_the_chosen_value() -> None:
    told = pace(2_000_000, *[3_000_000] * 3, *[600_000] * 10, *[4_000_000] * 120)
    rates = [t["bitrate"] for t in told]
    assert rates[-1] == 2_000_000
    assert not told[-1]["slow"]
    raised = [b / a for a, b in itertools.pairwise(rates) if b > a]
    assert raised
    assert max(raised) < 1.16
    assert max(rates) == 2_000_000


# ---- clocks ------------------------------------------------------------------------------------

_CLOCK = """
const timeline = new Timeline();
out(given.map(([stamp, arrived]) => { timeline.learn(stamp, arrived); return timeline.at(stamp); }));
"""


def clock(pairs: list[tuple[int, int]]) -> list[int]:
    """The timestamps of the timeline for pairs of capture and arrival time, in microseconds."""
    told: list[int] = run("timeline.js", "Timeline", _CLOCK, pairs)
    return told


def test_timestamps_follow_the_device_clock_without_delivery_jitter() -> None:
    frames = [(i * 33_333, 5_000_000 + i * 33_333 + (i * 7919) % 25_000) for i in range(300)]
    told = clock(frames)
    steps = [b - a for a, b in itertools.pairwise(told[90:])]
    assert max(abs(step - 33_333) for step in steps) <= 2_000
    assert all(a <= arrived + 2_000 for a, (_, arrived) in zip(told, frames, strict=True))


def test_timestamps_follow_a_device_clock_that_runs_fast() -> None:
    frames = [(round(i * 33_333 * 1.0005), 5_000_000 + i * 33_333) for i in range(30 * 120)]
    told = clock(frames)
    assert abs(told[-1] - frames[-1][1]) < 10_000


def test_a_jump_of_the_device_clock_is_corrected_without_decreasing_timestamps() -> None:
    frames = [(i * 33_333, 5_000_000 + i * 33_333) for i in range(150)]
    frames += [
        (stamp - 2_000_000, arrived)
        for stamp, arrived in [(i * 33_333, 5_000_000 + i * 33_333) for i in range(150, 400)]
    ]
    told = clock(frames)
    assert all(b > a for a, b in itertools.pairwise(told))
    assert abs(told[-1] - frames[-1][1]) < 5_000


_RHYTHM = """
out(given.map(({ rate, stamps }) => {
  const rhythm = new FrameLimiter(rate);
  return stamps.filter((stamp) => rhythm.accepts(stamp)).length;
}));
"""


def test_the_frame_limiter_keeps_the_chosen_frame_rate() -> None:
    cases = [(60, 30, 30), (30, 30, 30), (25, 30, 25), (50, 24, 24), (30, 15, 15)]
    given = [
        {"rate": rate, "stamps": [round(i * 1e6 / source + (i * 37) % 3000) for i in range(source * 10)]}
        for source, rate, _ in cases
    ]
    counts = run("frame-limiter.js", "FrameLimiter", _RHYTHM, given)
    assert all(abs(count - taken * 10) <= 2 for count, (_, _, taken) in zip(counts, cases, strict=True)), counts


# ---- connections -------------------------------------------------------------------------------


CODES: list[tuple[int, dict[str, bool], str, bool]] = [
    (4401, {}, "key", False),
    (4410, {"accepted": True}, "kicked", False),
    (4409, {}, "inUse", False),
    (4409, {"early": True}, "inUse", True),
    (4409, {"accepted": True}, "ownConnection", True),
    (1013, {}, "busy", True),
    (1003, {}, "unusable", False),
    (1008, {}, "policy", False),
    (4408, {"accepted": True}, "stalled", True),
    (1009, {}, "tooBig", False),
    (1001, {}, "shutdown", True),
    (1011, {}, "server", True),
    (1006, {}, "unreachable", True),
    (1006, {"secure": True}, "tls", True),
    (1006, {"opened": True, "secure": True}, "lost", True),
    (1015, {}, "tls", True),
    (1000, {}, "closed", True),
]


def test_close_codes_decide_message_and_reconnect() -> None:
    usual = {"opened": False, "accepted": False, "early": False, "secure": False}
    given = [(code, usual | past) for code, past, _, _ in CODES]
    judged = run("close-policy.js", "closePolicy", "out(given.map((one) => closePolicy(...one)));", given)
    assert judged == [{"why": why, "again": again} for _, _, why, again in CODES]


def test_a_whip_push_is_retried_only_after_temporary_errors() -> None:
    # The answer's status; whether this page was accepted before; the reason; whether it tries again.
    known = [
        (401, False, "key", False), (403, True, "key", False), (409, False, "inUse", False),
        (409, True, "ownConnection", True), (429, True, "busy", True), (503, False, "busy", True),
        (406, False, "unusable", False), (404, False, "noWhip", False), (500, False, "server", True),
        (0, False, "unreachable", True),
    ]  # fmt: skip
    past = {"opened": False, "early": False, "secure": False}
    given = [(status, {**past, "accepted": accepted}) for status, accepted, _, _ in known]
    judged = run("close-policy.js", "whipPolicy", "out(given.map((one) => whipPolicy(...one)));", given)
    assert judged == [{"why": why, "again": again} for _, _, why, again in known]


_PARSE = (
    "out(given.map((text) => { const k = parseKey(text); return k && { ...k, server: k.server?.host ?? null }; }));"
)


def test_pasted_keys_and_urls_are_parsed() -> None:
    pasted = {
        KEY: None,
        f"  {KEY}\n": None,
        f"#{KEY}": None,
        f"stream/{KEY}": None,
        f"ws://media.example.com:8081/stream/{KEY}": "media.example.com:8081",
        f"wss://media.example.com/stream/{KEY}": "media.example.com",
        f"rtmp://[2001:db8::1]:1935/stream/{KEY}": "[2001:db8::1]:1935",
        f"http://media.example.com:8080/broadcast.html#{KEY}": "media.example.com:8080",
        f"https://media.example.com/{KEY.replace('?', '/whip?')}": "media.example.com",
        KEY.replace("sign=", "x=1&sign="): None,
    }
    id, sign = KEY.partition("?")[0], KEY.partition("sign=")[2]
    read = run("target.js", "parseKey", _PARSE, list(pasted))
    assert read == [{"id": id, "sign": sign, "server": server} for server in pasted.values()]


def test_any_other_host_or_port_is_a_foreign_server() -> None:
    ports = {"ws": 8081, "wss": 8444}
    foreign = {
        "ws://live.example.com:8081": "",
        "wss://live.example.com:8444": "",
        "WSS://LIVE.example.com:8444": "",
        "ws://live.example.com:9999": "live.example.com:9999",
        "ws://live.example.com": "live.example.com",
        "wss://evil.example:8444": "evil.example:8444",
        "ws://live.example.com.evil.example:8081": "live.example.com.evil.example:8081",
        "ws://live.example.com@evil.example:8081": "evil.example:8081",
        "ws://live.example.com:8081@evil.example": "evil.example",
        "ws://liv\u0435.example.com:8081": "xn--liv-bdd.example.com:8081",
    }
    script = 'out(given[0].map((base) => foreignHost(base, "live.example.com", given[1])));'
    told = run("target.js", "foreignHost", script, [list(foreign), ports])
    assert (
        dict(zip(foreign, told, strict=True)).items()
        >= {base: host for base, host in foreign.items() if "\u0435" not in base}.items()
    )
    assert told[-1].startswith("xn--"), "letters that look alike are told apart"
    ours = 'out(foreignHost("ws://live.example.com", "live.example.com", given));'
    assert run("target.js", "foreignHost", ours, {"ws": 80, "wss": None}) == ""
    given = [["ws://push.example.com:8081", "ws://evil.example:8081"], {**ports, "host": "push.example.com"}]
    assert run("target.js", "foreignHost", script, given) == ["", "evil.example:8081"]


_FROM_KEY = """
Object.assign(location, { origin: "http://live.example.com", hostname: "live.example.com", protocol: "http:" });
const asked = [];
const servers = [given.standby, "live.example.com"].map((address) => ({ address, ports: { ws: 8081, wss: null } }));
globalThis.fetch = async (path) => {
  asked.push(path);
  if (path === "/broadcast.json") return Response.json({ host: given.host ?? "", ws: 8081, wss: null });
  if (given.page) return new Response("<html>Welcome</html>");
  return given.refused ? Response.json({ error: "no" }, { status: 403 }) : Response.json(servers);
};
out({ urls: (await fromKey(given.key)).urls, asked });
"""


def test_the_page_finds_all_push_servers_with_a_key() -> None:
    id, sign = KEY.partition("?")[0], KEY.partition("sign=")[2]
    own, standby = (f"ws://{host}:8081/stream/{KEY}" for host in ("live.example.com", "standby.example.com"))
    given = {"key": KEY, "standby": "standby.example.com", "refused": False}
    told = run("target.js", "fromKey", _FROM_KEY, given)
    status = f"http://live.example.com/{id}/status.json"  # has the channel's name
    assert told == {"urls": [own, standby], "asked": ["/broadcast.json", f"/_servers/{id}?sign={sign}", status]}
    assert run("target.js", "fromKey", _FROM_KEY, {**given, "refused": True})["urls"] == [own]
    assert run("target.js", "fromKey", _FROM_KEY, {**given, "page": True})["urls"] == [own]  # of a proxy
    elsewhere = run("target.js", "fromKey", _FROM_KEY, {**given, "host": "push.example.com"})
    assert elsewhere["urls"] == [f"ws://push.example.com:8081/stream/{KEY}", standby, own]
    foreign = f"ws://elsewhere.example:8081/stream/{KEY}"
    told = run("target.js", "fromKey", _FROM_KEY, {**given, "key": foreign})
    assert told == {"urls": [foreign], "asked": ["/broadcast.json"]}  # the other server's list is not asked for


def test_text_without_a_valid_key_gives_null() -> None:
    sign = "1-" + "a" * 32
    none = ["", "hello", f"?sign={sign}", "id?sign=", "id?sign=1-xyz", f"a b?sign={sign}", f"http://x/?sign={sign}"]
    assert run("target.js", "parseKey", _PARSE, none) == [None] * len(none)


# ---- the wire ----------------------------------------------------------------------------------


def test_the_server_can_parse_frame_messages_of_the_page() -> None:
    script = """
    const chunk = { type: given.type, duration: 33333, byteLength: 4, copyTo: (to) => to.set([1, 2, 3, 4]) };
    out([...message(given.kind, chunk, given.pts)]);
    """
    for kind, type_, pts in ((1, "key", 123_456_789_012), (1, "delta", -5), (2, "key", 0)):
        data = bytes(run("frames.js", "message", script, {"kind": kind, "type": type_, "pts": pts}))
        chunk = read_chunk(data)
        assert (chunk.kind.value, chunk.key) == ("video" if kind == 1 else "audio", type_ == "key")
        assert (chunk.pts, chunk.duration, chunk.payload) == (pts, 33_333, b"\x01\x02\x03\x04")


def test_the_server_can_parse_the_configuration_of_the_page() -> None:
    script = """
    const description = new Uint8Array([1, 66, 224]).buffer;
    const video = { codec: "avc1.42E01F", codedWidth: 1280, codedHeight: 720, description };
    const audio = { codec: "opus", sampleRate: 48000, numberOfChannels: 2 };
    out(configuration({ config: video, width: 640, height: 360, frameRate: 30 }, audio));
    """
    said = read_text(run("frames.js", "configuration", script))
    assert said == Configured(
        VideoConfig("avc1.42E01F", b"\x01\x42\xe0", 1280, 720, 30), AudioConfig("opus", 48_000, 2)
    )


# ---- words and weight --------------------------------------------------------------------------

_LINE = re.compile(r'  "(?P<key>[\w.]+)": "(?P<words>(?:[^"\\]|\\.)+)",')
_LITERAL = re.compile(r'(?:\bt\(\s*|word: )"([^"]+)"')
_TEMPLATE = re.compile(r"(?:\bt\(\s*|word: |word = )`([^`]*)`")
_DATA = re.compile(r'data-(?:word|label)="([^"]+)"')


def table(language: str) -> dict[str, str]:
    """The texts of one language by key."""
    lines = (FOLDER / "words" / f"{language}.js").read_text().splitlines()
    other = [line for line in lines if line and not _LINE.fullmatch(line)]
    assert len(other) == 3, other  # the comment, the table's begin and end
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    assert len({match["key"] for match in found}) == len(found), "a key stands twice"
    return {match["key"]: match["words"] for match in found}


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, chinese = table("en"), table("zh")
    assert english.keys() == chinese.keys()
    for key, words in english.items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_used_text_exists_and_every_text_is_used() -> None:
    own = "\n".join(file.read_text() for file in FOLDER.glob("*.js"))
    shared = {FOLDER.parent / "players" / name for name in re.findall(r'from "\.\./players/([\w-]+\.js)"', own)}
    code = own + "\n".join(file.read_text() for file in shared)
    page = (FOLDER / "broadcast.html").read_text()
    known = table("en").keys()
    asked = set(_LITERAL.findall(code)) | set(_DATA.findall(page))
    assert asked <= known, asked - known
    patterns = [re.compile(re.sub(r"\\\$\\\{[^}]*\}", "[^.]+", re.escape(t))) for t in _TEMPLATE.findall(code)]
    quoted = set(re.findall(r'"([a-z]+(?:\.\w+)+)"', code))
    unused = {key for key in known - asked - quoted if not any(p.fullmatch(key) for p in patterns)}
    assert not unused


def test_own_scripts_and_styles_stay_small() -> None:
    files = [*FOLDER.glob("*.js"), *FOLDER.glob("*.css"), *FOLDER.glob("words/*.js")]
    assert sum(file.stat().st_size for file in files) <= 200_000


def test_the_page_has_no_inline_code_and_parses_no_html_strings() -> None:
    page = (FOLDER / "broadcast.html").read_text()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", page)
    for file in FOLDER.rglob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", file.read_text()), (
            file.name
        )
