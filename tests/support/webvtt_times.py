"""Reads the times of WebVTT segments of HLS."""

import re


def cues(file: str) -> list[tuple[str, float]]:
    """The texts of a WebVTT file, and their starts in seconds of MPEG-2 time."""
    origin = re.search(r"MPEGTS:([0-9]+),LOCAL:([0-9]+):([0-9]+):([0-9.]+)", file)
    assert origin
    offset = int(origin[1]) / 90_000 - _seconds(*origin.groups()[1:])
    found = re.findall(r"^([0-9]+):([0-9]+):([0-9.]+) --> [^\n]*\n([^\n]*)", file, re.MULTILINE)
    return [(text, _seconds(*time) + offset) for *time, text in found]


def _seconds(hours: str, minutes: str, rest: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)
