"""Writes and reads WebVTT (W3C WebVTT), for segments of HLS and for whole films."""

import re
from collections.abc import Iterable, Iterator
from html import unescape
from typing import Final

from gateway.formats.captions.cue_lines import Timing, finished, read_timing, shown_text
from gateway.media.caption_cue import CaptionCue

_TICKS_PER_MS: Final = 90
_PTS_MASK: Final = (1 << 33) - 1
_HEAD: Final = 200  # bytes in which the map stands
_MAP: Final = re.compile(rb"MPEGTS:([0-9]{1,10}),LOCAL:([0-9]{2,6}):([0-9]{2}):([0-9]{2})\.([0-9]{3})")
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_HEADER: Final = re.compile(r"WEBVTT(?:[ \t\n]|$)")
_TAG: Final = re.compile(r"<[^>]*(?:>|$)")  # §6.4: a tag that is not closed has the rest of the text
_LINE: Final = re.compile(r"(?:^|\s)line:(-?\d{1,3})(?:\.\d+)?(%?)")
_LINE_PERCENT: Final = 16 / 3  # height of a line in the picture (§7.1)


def webvtt(cues: Iterable[CaptionCue], origin: int = 0, timestamp_map: tuple[int, int] | None = None) -> bytes:
    """Returns a WebVTT file with these cues, in their order.

    origin: ticks of 90 kHz that are the file's time 0. What a cue has before it is cut.
    timestamp_map: (ticks of MPEG-2 TS, the same moment as ticks of the file), for HLS (RFC 8216bis §3.1.4).
    Cues without an end, without text or without a duration are left out. Markup in the text is escaped.
    """
    header = ["WEBVTT"]
    if timestamp_map is not None:
        mpegts, local = timestamp_map
        header.append(f"X-TIMESTAMP-MAP=MPEGTS:{mpegts & _PTS_MASK},LOCAL:{_time(_milliseconds(local))}")
    blocks = ["\n".join(header), *(block for cue in cues if (block := _block(cue, origin)))]
    return ("\n\n".join(blocks) + "\n").encode("utf-8", "replace")


def read_webvtt(text: str) -> list[CaptionCue] | None:
    """Returns the cues, sorted; None if the text is not WebVTT. text: its lines end in line feeds.

    Regions, styles, notes, tags and settings other than `line` are ignored.
    """
    return finished(_cues(text.split("\n"))) if _HEADER.match(text) else None


def read_timestamp_map(file: bytes) -> tuple[int, int]:
    """Returns the `timestamp_map` with which `webvtt` made a file, its first time modulo 2**33; (0, 0): without one."""
    found = _MAP.search(file[:_HEAD])
    if found is None:
        return 0, 0
    mpegts, hours, minutes, seconds, milliseconds = map(int, found.groups())
    return mpegts, ((hours * 3600 + minutes * 60 + seconds) * 1000 + milliseconds) * _TICKS_PER_MS


def join_webvtt(files: Iterable[bytes]) -> bytes:
    """Returns one file of those that `webvtt` made on one clock. Equal cues become one; b"" without a file."""
    headers = []
    blocks: dict[bytes, None] = {}
    for file in files:
        header, *cues = file.rstrip(b"\n").split(b"\n\n")
        headers.append(header)
        blocks |= dict.fromkeys(cues)
    return b"\n\n".join([*headers[:1], *blocks]) + b"\n" if headers else b""


def cue_text(text: str) -> str:
    """Returns text as a WebVTT cue's payload: markup escaped, no empty line that would end the cue (§4.1)."""
    return shown_text(text).translate(_ESCAPES)


def cue_settings(cue: CaptionCue) -> str:
    """Returns the settings of a cue (§4.4); "" if players choose its place."""
    return "" if cue.line is None else f"line:{min(max(cue.line, 0), 100)}%"


def _block(cue: CaptionCue, origin: int) -> str:
    """Returns timings, settings and text; "" if there is nothing to show."""
    text = cue_text(cue.text)
    if not text or cue.end is None or cue.end <= max(cue.start, origin):
        return ""
    start = _milliseconds(cue.start - origin)
    end = max(_milliseconds(cue.end - origin), start + 1)  # §4.1: the end is later than the start
    return f"{_time(start)} --> {_time(end)} {cue_settings(cue)}".rstrip() + "\n" + text


def _milliseconds(ticks: int) -> int:
    return max(ticks + _TICKS_PER_MS // 2, 0) // _TICKS_PER_MS


def _time(milliseconds: int) -> str:
    seconds, ms = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def _cues(lines: list[str]) -> Iterator[CaptionCue]:
    """Yields the cues (§6.1). A cue ends at an empty line, or at a line with an arrow."""
    timing: Timing | None = None
    body: list[str] = []
    for line in (*lines, ""):
        if line and "-->" not in line:
            body.append(line)
            continue
        if timing is not None:
            shown = unescape(_TAG.sub("", "\n".join(body)))
            yield CaptionCue(timing.start, timing.end, shown, _read_line(timing.settings))
        timing, body = read_timing(line), []


def _read_line(settings: str) -> int | None:
    """Returns the distance from the top in percent. A number without % counts lines, from the bottom if negative."""
    found = _LINE.search(settings)
    if found is None:
        return None
    number = int(found[1])
    if not found[2]:
        number = round(number * _LINE_PERCENT) + (100 if number < 0 else 0)
    return min(max(number, 0), 100)
