"""What ad cues say: the break in a `splice_info_section` (SCTE 35) or in AMF, and sections of our own breaks."""

import base64
import binascii
import math
import zlib
from dataclasses import dataclass
from typing import Final

from gateway.formats.script_data import AD_CUE, CUE_POINT, Values, read_ad_cue
from gateway.formats.scte35 import (
    BreakDuration,
    CancelledInsert,
    OtherCommand,
    Segmentation,
    SpliceInfo,
    SpliceInsert,
    SpliceNull,
    TimeSignal,
    read_section,
    write_section,
)
from gateway.lib.numbers import read_integer
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.timed_data import MAX_ID, CueType
from gateway.media.track import AmfValue

LONGEST: Final = 86_400.0  # seconds of a break
_WRAP: Final = 1 << 33
_MAX_TEXT: Final = 8192  # characters: a section of 4096 bytes, and bytes after it
# §10.3.3.1, Table 23: breaks, advertisements, placement opportunities and ad blocks. The end has the next number.
_STARTS: Final = frozenset((0x22, 0x30, 0x32, 0x34, 0x36, 0x44, 0x46))
_BANDWIDTH_RESERVATION: Final = 7  # §9.7.5: it keeps the PID's share of the bitrate
_AHEAD: Final = 60_000, 10_000  # ms that a section's time may be after and before its AMF message
_YOUTUBE: Final = "com.youtube.cuepoint"
_SIMPLE: Final = "SpliceOut"  # Adobe Primetime's "simple mode": a break without a section


@dataclass(frozen=True, slots=True)
class Splice:
    """A break that begins or ends. seconds: planned; None: unknown.

    pts: ticks of 90 kHz on the clock of the sender, below 2**33; None: at once. section: of which it was read.
    """

    type: CueType
    id: str
    pts: int | None
    seconds: float | None
    section: bytes


@dataclass(frozen=True, slots=True)
class ScriptSplice:
    """A break of AMF. at: milliseconds after its message."""

    splice: Splice
    at: int


def read_splice(section: bytes) -> Splice | None:
    """Returns what a section says; None for a heartbeat or filling. Bytes after it are left out. Raises InvalidData."""
    info = read_section(section)
    section = section[: 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)]
    command = info.command
    is_filling = isinstance(command, OtherCommand) and command.type == _BANDWIDTH_RESERVATION
    if (is_filling or isinstance(command, SpliceNull)) and not info.descriptors:
        return None
    if isinstance(command, SpliceInsert):
        kind = CueType.OUT if command.out else CueType.IN
        duration = None if command.duration is None or not command.out else command.duration.ticks
        return Splice(kind, str(command.event_id), _adjusted(_insert_pts(command), info), _seconds(duration), section)
    pts = _adjusted(command.pts, info) if isinstance(command, TimeSignal) else None
    segments = [item for item in info.descriptors if isinstance(item, Segmentation)]
    for kind, types in ((CueType.OUT, _STARTS), (CueType.IN, frozenset(n + 1 for n in _STARTS))):
        for segment in segments:
            if segment.type_id in types:
                seconds = _seconds(segment.duration) if kind is CueType.OUT else None
                return Splice(kind, str(segment.event_id), pts, seconds, section)
    named = [command] if isinstance(command, CancelledInsert) else segments
    return Splice(CueType.OTHER, str(named[0].event_id) if named else "", pts, None, section)


def _insert_pts(insert: SpliceInsert) -> int | None:
    """Returns the time of a `splice_insert`: of the program, or of its first component."""
    if insert.components:
        return insert.components[0][1]
    return insert.pts


def _adjusted(pts: int | None, info: SpliceInfo) -> int | None:
    """Returns the time to which §9.6.1 adds `pts_adjustment`, without the carry."""
    return None if pts is None else (pts + info.pts_adjustment) % _WRAP


def _seconds(ticks: int | None) -> float | None:
    return round(ticks / VIDEO_CLOCK, 3) if ticks and ticks <= LONGEST * VIDEO_CLOCK else None


def event_id(id: str) -> int:
    """Returns the `splice_event_id` of the id of a break: its number, or a number made of its text."""
    number = read_integer(id, (1 << 32) - 1)
    return zlib.crc32(id.encode("utf-8", "replace")) if number is None else number


def splice_section(kind: CueType, id: str, at: int, seconds: float | None) -> bytes:
    """Returns the section of a break that begins or ends. at: milliseconds on the stream's clock.

    seconds: above 0 and at most LONGEST; None: the break ends with its end only.
    """
    pts = at * (VIDEO_CLOCK // 1000) % _WRAP
    duration = None if seconds is None else BreakDuration(round(seconds * VIDEO_CLOCK))
    return write_section(SpliceInfo(SpliceInsert(event_id(id), kind is CueType.OUT, pts, duration=duration)))


def decode_section(text: str) -> bytes:
    """Returns the bytes of a section in base64. Raises InvalidData."""
    if len(text) > _MAX_TEXT:
        raise InvalidData(f"SCTE 35: {len(text)} characters")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidData("SCTE 35: no base64") from None


def is_cue_message(name: str) -> bool:
    return name in (AD_CUE, CUE_POINT)


def read_script_splice(name: str, values: Values, dts: int) -> ScriptSplice | None:
    """Returns the break of `onAdCue` or `onCuePoint`; None for one that is no ad cue. Raises InvalidData.

    values: the first object of the message. dts: its time on the clock of the sender, milliseconds.
    """
    if name == AD_CUE:
        return _ad_cue(values, dts)
    return (_youtube_cue if values.get("type") == _YOUTUBE else _cue_point)(values, dts)


def _ad_cue(values: Values, dts: int) -> ScriptSplice | None:
    """Reads what `write_timed` wrote, a section alone, or the two modes of Adobe Primetime, which have `cue`."""
    text = values.get("scte35") or values.get("cue")
    if not isinstance(text, str):
        raise InvalidData("onAdCue: no section in scte35")
    if _positive(values.get("elapsed")):
        return None  # a repetition for those who join during the break
    told = _ahead(values.get("time"), dts)
    if text == _SIMPLE:
        id = values.get("id")
        return _made(CueType.OUT, id if isinstance(id, str) else "", dts, told or 0, _positive(values.get("duration")))
    splice = read_splice(decode_section(text))
    if splice is None:
        return None
    if (cue := read_ad_cue(values, dts)) is not None:
        return ScriptSplice(Splice(cue.type, cue.id, splice.pts, cue.seconds, splice.section), cue.at - dts)
    if told is not None or splice.pts is None:
        return ScriptSplice(splice, told or 0)
    ahead = (splice.pts // (VIDEO_CLOCK // 1000) - dts + _WRAP // 180) % (_WRAP // 90) - _WRAP // 180
    return ScriptSplice(splice, ahead if -_AHEAD[1] <= ahead <= _AHEAD[0] else 0)


def _ahead(time: AmfValue, now: int) -> int | None:
    """Returns the milliseconds until a time in seconds; None for a time that is missing, or not near."""
    ahead = round(time * 1000) - now if isinstance(time, float) and abs(time) < 1e9 else None
    return ahead if ahead is not None and -_AHEAD[1] <= ahead <= _AHEAD[0] else None


def _cue_point(values: Values, now: int) -> ScriptSplice | None:
    """Reads `name`, `time`, `type`, and `parameters` with `type` and `duration`, or those of AWS Elemental."""
    more = values.get("parameters")
    parameters = more if isinstance(more, dict) else {}
    begins = parameters.get("out_of_network_indicator")
    if isinstance(begins, bool):  # Elemental's form of a splice_insert: its durations are milliseconds
        wait, seconds = (_positive(parameters.get(key), 1000) for key in ("pre_roll_time", "break_duration"))
        return _insert(parameters, begins, now, wait, seconds)
    kind = _kind(parameters.get("type"))
    if kind is None:
        return None  # another cue point: of a chapter, for example
    name = values.get("name")
    id = name if isinstance(name, str) else ""
    return _made(kind, id, now, _ahead(values.get("time"), now) or 0, _positive(parameters.get("duration")))


def _kind(value: AmfValue) -> CueType | None:
    """Returns what the type of a cue point stands for."""
    if not isinstance(value, str):
        return None
    word = value.lower().removeprefix("ad").strip("-_ ").removeprefix("break").strip("-_ ")
    if word in ("", "out", "start", "begin"):
        return CueType.OUT
    return CueType.IN if word in ("in", "end", "stop") else None


def _youtube_cue(values: Values, now: int) -> ScriptSplice:
    """Reads the form of `com.youtube.cuepoint`, version 0.1."""
    begins = values.get("cue_point_start")
    if not isinstance(begins, bool):
        raise InvalidData("onCuePoint: no cue_point_start")
    wait, seconds = (_positive(values.get(key)) for key in ("pre_roll_time_sec", "break_duration_sec"))
    return _insert(values, begins, now, wait, seconds)


def _insert(values: Values, begins: bool, now: int, wait: float | None, seconds: float | None) -> ScriptSplice:
    """Reads the id of a `splice_insert` that has been translated to AMF. wait: seconds until it."""
    number = values.get("splice_event_id")
    id = str(int(number)) if isinstance(number, float) and 0 <= number < 1 << 32 else ""
    return _made(CueType.OUT if begins else CueType.IN, id, now, round((wait or 0) * 1000), seconds)


def _positive(value: AmfValue, a_second: int = 1) -> float | None:
    """Returns seconds; None if they are missing. Raises InvalidData. a_second: units of the value in a second."""
    if value is None or value == 0:
        return None
    if not isinstance(value, float) or not math.isfinite(value) or not 0 < value <= LONGEST * a_second:
        raise InvalidData("seconds of an ad cue out of range")
    return value / a_second


def _made(kind: CueType, id: str, now: int, ahead: int, seconds: float | None) -> ScriptSplice:
    """Returns a break without a section, with a section of our own."""
    ahead = ahead if -_AHEAD[1] <= ahead <= _AHEAD[0] else 0
    seconds = seconds if kind is CueType.OUT else None
    section = splice_section(kind, id, now + ahead, seconds)
    return ScriptSplice(Splice(kind, id[:MAX_ID] or str(event_id(id)), None, seconds, section), ahead)
