"""The judges by name: what each needs, which kinds of streams it judges, and how it is run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from judges import dash_rules, flv_rules, http_rules, llhls_rules, media_checks, tools, ws_rules
from judges.fetch import get
from judges.findings import Findings
from judges.kinds import Kind
from judges.processes import Processes

PROGRAM_SECONDS = 120.0
# Seconds that judges watch a stream.
WATCH, GLANCE = 30.0, 10.0


@dataclass(frozen=True)
class Subject:
    """A stream under judgement. base: its playback address; source: what is pushed; bodies: of captured PutMedia.

    key: the stream key.
    """

    kind: Kind
    base: str
    source: Path
    ffmpeg: str
    admin_port: int
    processes: Processes
    key: str = ""
    bodies: tuple[Path, ...] = ()

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and path of the base."""
        parts = urlsplit(self.base)
        return parts.hostname or "", parts.port or 0, parts.path


@dataclass(frozen=True)
class Judge:
    """A judge. applies: to which kinds; missing: words about a tool that is not there, or nothing.

    early: it sees the stream from its start; others come when segments are there. bodies: it judges them afterwards.
    """

    name: str
    run: Callable[[Subject, Findings], None]
    applies: Callable[[Kind], bool]
    missing: Callable[[], str] = tools.nothing_missing
    early: bool = False
    bodies: bool = False


def _media(kind: Kind) -> bool:
    return kind.name != "kinesis"


def _ts(kind: Kind) -> bool:
    # Players of HLS in MPEG-TS read no AV1: the gateway makes none of it.
    return _media(kind) and kind.codec != "av1"


def _going_on(kind: Kind) -> bool:
    return _media(kind) and not kind.ends


def _watch(kind: Kind) -> float:
    return 60.0 if kind.ends else WATCH


def _ts_going_on(kind: Kind) -> bool:
    return _going_on(kind) and _ts(kind)


def _gohlslib(kind: Kind) -> bool:
    # gohlslib 2.4.3 selects no variant with the codec string av01, though it reads AV1.
    return _going_on(kind) and kind.codec != "av1"


def _hls_m3u8(kind: Kind) -> bool:
    # hls-m3u8 0.6.0 calls a playlist empty whose first segment has parts: the window of long GOPs is so short.
    return _going_on(kind) and not kind.long_gops


# ---- rules of our own ----


def _llhls(subject: Subject, findings: Findings) -> None:
    llhls_rules.judge(f"{subject.base}/master.m3u8", _watch(subject.kind), findings, paced=not subject.kind.pause)


def _ts_rules(subject: Subject, findings: Findings) -> None:
    llhls_rules.judge(f"{subject.base}/live.m3u8", _watch(subject.kind), findings, paced=not subject.kind.pause)


def _ladder(subject: Subject, findings: Findings) -> None:
    llhls_rules.judge(f"{subject.base}/index.m3u8", WATCH, findings)


def _dash(subject: Subject, findings: Findings) -> None:
    dash_rules.judge(f"{subject.base}/manifest.mpd", _watch(subject.kind), findings)


def _flv(subject: Subject, findings: Findings) -> None:
    flv_rules.judge(f"{subject.base}/live.flv", WATCH if len(subject.kind.recipes) > 1 else GLANCE, findings)


def _http(subject: Subject, findings: Findings) -> None:
    host, port, path = subject.address
    lines = get(f"{subject.base}/live.m3u8").body.decode().splitlines()
    segment = next((line for line in lines if line and not line.startswith("#")), "")
    pages = {"file": f"{path}/{segment}" if segment else "", "page": f"{path}/index.html"}
    http_rules.judge(host, port, f"{path}/live.m3u8", findings, **pages)


def _websocket(subject: Subject, findings: Findings) -> None:
    host, port, path = subject.address
    ws_rules.judge(host, port, f"{path}/live.flv", findings)


def _slow_heads(subject: Subject, findings: Findings) -> None:
    host, port, _ = subject.address
    http_rules.slow_heads([(host, port), (host, subject.admin_port)], 10.0, findings)


def _alone(subject: Subject, findings: Findings) -> None:
    paths = ["master.m3u8", *(["live.m3u8"] if _ts(subject.kind) else [])]
    for path in paths:
        media_checks.segments_alone(f"{subject.base}/{path}", findings, subject.ffmpeg)


def _aspect(subject: Subject, findings: Findings) -> None:
    assert subject.kind.pixel_aspect is not None
    media_checks.pixel_aspect(subject.base, subject.kind.pixel_aspect, findings)


def _hashes(subject: Subject, findings: Findings) -> None:
    media_checks.frame_hashes(subject.source, f"{subject.base}/live.flv", GLANCE, findings, subject.ffmpeg)


# ---- other projects' parsers and players ----


def _program(
    subject: Subject,
    command: list[str],
    findings: Findings,
    seconds: float = PROGRAM_SECONDS,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Runs a judge that prints `BROKEN rule: example` and `NOTE name: value` lines."""
    environment = {**os.environ, "JUDGE_MODULES": str(tools.NODE_MODULES.parent), **more}
    if subject.kind.long_gops:
        environment["JUDGE_LONG_GOPS"] = "1"
    try:
        done = subject.processes.run(command, seconds, environment)
    except subprocess.TimeoutExpired:
        findings.breaks("the judge ends in time", f"{seconds:.0f} s")
        return
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        name, _, value = rest.partition(": ")
        if word == "BROKEN":
            findings.breaks(name, value)
        elif word == "NOTE":
            findings.note(name, value)
    if done.returncode and not findings.broken:
        findings.breaks("the judge itself failed", f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")


def _go(mode: str, path: str, seconds: float = 0.0) -> Callable[[Subject, Findings], None]:
    def run(subject: Subject, findings: Findings) -> None:
        extra = [str(seconds)] if seconds else []
        _program(subject, [str(tools.GO_PROGRAM), mode, f"{subject.base}/{path}", *extra], findings)

    return run


def _npm_parsers(subject: Subject, findings: Findings) -> None:
    script = tools.SCRIPTS / "parse.mjs"
    _program(subject, [tools.node() or "node", str(script), subject.base], findings)


def _npm_players(subject: Subject, findings: Findings) -> None:
    script = tools.SCRIPTS / "players.mjs"
    command = [tools.node() or "node", str(script), subject.base, "8", tools.chromium() or "chromium"]
    _program(subject, command, findings, 250.0)


def _players_over_a_change(subject: Subject, findings: Findings) -> None:
    """Both DASH players see the change of size, which is 25 s after the start of the push."""
    script = tools.SCRIPTS / "players.mjs"
    command = [tools.node() or "node", str(script), subject.base, "35", tools.chromium() or "chromium"]
    _program(subject, [*command, "shaka-dash,dashjs", "together"], findings)


def _captions(subject: Subject, findings: Findings) -> None:
    """The players show captions that are written while they play, each in its own way."""
    script = tools.SCRIPTS / "players.mjs"
    players = "shaka-dash,shaka-hls,dashjs,hlsjs,hlsjs-index"
    command = [tools.node() or "node", str(script), subject.base, "8", tools.chromium() or "chromium", players]
    _program(subject, command, findings, 200.0, {"JUDGE_KEY": subject.key})


def _m3u8(subject: Subject, findings: Findings) -> None:
    _program(subject, [str(tools.M3U8_PYTHON), "-m", "judges.py_m3u8", subject.base], findings)


def _kinesis(subject: Subject, findings: Findings) -> None:
    findings.require(subject.bodies, "a PutMedia body was captured")
    jars = f"{tools.KINESIS_JARS}/lib/*:{tools.KINESIS_JARS}/classes"
    _program(subject, ["java", "-cp", jars, "KinesisJudge", *map(str, subject.bodies)], findings)


JUDGES = (
    Judge("llhls-rules", _llhls, _media, early=True),
    Judge("ts-rules", _ts_rules, _ts, early=True),
    Judge("ladder-rules", _ladder, lambda kind: kind.name == "ladder", early=True),
    Judge("dash-rules", _dash, _media, early=True),
    Judge("flv-rules", _flv, _going_on, early=True),
    Judge("segments-alone", _alone, lambda kind: _going_on(kind) and kind.video and not kind.long_gops,
          tools.missing_ffmpeg),
    Judge("pixel-aspect", _aspect, lambda kind: kind.pixel_aspect is not None),
    Judge("frame-hashes", _hashes, lambda kind: _going_on(kind) and kind.exact and len(kind.recipes) == 1),
    Judge("http-rules", _http, lambda kind: kind.name == "ordinary", early=True),
    Judge("websocket-rules", _websocket, lambda kind: kind.name == "ordinary", early=True),
    Judge("slow-heads", _slow_heads, lambda kind: kind.name == "ordinary", early=True),
    Judge("gohlslib-llhls", _go("play", "master.m3u8", GLANCE), _gohlslib, tools.missing_go),
    Judge("gohlslib-ts", _go("play", "live.m3u8", GLANCE), _ts_going_on, tools.missing_go),
    Judge("hls-m3u8", _go("hls", "master.m3u8"), _hls_m3u8, tools.missing_go),
    Judge("hls-m3u8-ts", _go("hls", "live.m3u8"), _ts_going_on, tools.missing_go),
    Judge("mp4ff", _go("mp4", "master.m3u8"), _going_on, tools.missing_go),
    Judge("astits", _go("ts", "live.m3u8"), _ts_going_on, tools.missing_go),
    Judge("go-flv", _go("flv", "live.flv", GLANCE), lambda kind: _going_on(kind) and kind.codec in ("h264", "none"),
          tools.missing_go),
    Judge("dash-mpd", _go("mpd", "manifest.mpd"), _going_on, tools.missing_go),
    Judge("npm-parsers", _npm_parsers, _going_on, tools.missing_node),
    Judge("npm-players", _npm_players, lambda kind: kind.browser, tools.missing_browser),
    Judge("npm-captions", _captions, lambda kind: kind.name == "captions", tools.missing_browser),
    Judge("dash-players", _players_over_a_change, lambda kind: kind.name == "size-change", tools.missing_browser,
          early=True),
    Judge("pypi-m3u8", _m3u8, _going_on, tools.missing_m3u8),
    Judge("kinesis-parser", _kinesis, lambda kind: kind.name == "kinesis", tools.missing_java, bodies=True),
)  # fmt: skip
