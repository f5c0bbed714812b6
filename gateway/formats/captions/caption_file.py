"""Reads files with captions, WebVTT or SubRip, in any of the usual text encodings."""

import codecs
from typing import Final

from gateway.formats.captions.subrip import read_subrip
from gateway.formats.captions.webvtt import read_webvtt
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData

MAX_BYTES: Final = 5_000_000

_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_caption_file(data: bytes, max_bytes: int = MAX_BYTES) -> list[CaptionCue]:
    """Returns the cues of a WebVTT or SubRip file, sorted by their starts; times count from 0.

    Bounds: see `cue_lines`. Damaged cues are left out. Raises InvalidData for other files, and above `max_bytes`.
    """
    if len(data) > max_bytes:
        raise InvalidData(f"captions of more than {max_bytes // 1_000_000} MB")
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n")
    cues = read_webvtt(text)
    if cues is None:
        cues = read_subrip(text)
    if cues is None:
        raise InvalidData("the file is neither WebVTT nor SubRip")
    return cues


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")  # Latin-1 with the quotation marks of Windows
