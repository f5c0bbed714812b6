"""Reads files with captions, WebVTT or SubRip, in any of the usual text encodings."""

from typing import Final

from gateway.formats.captions.charsets import decode_text
from gateway.formats.captions.subrip import read_subrip
from gateway.formats.captions.webvtt import read_webvtt
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData

MAX_BYTES: Final = 5_000_000


def read_caption_file(
    data: bytes, max_bytes: int = MAX_BYTES, *, language: str = "", charset: str = ""
) -> list[CaptionCue]:
    """Returns the cues of a WebVTT or SubRip file, sorted by their starts; times count from 0.

    language, charset: see `decode_text`. Bounds: see `cue_lines`. Damaged cues are left out. Raises InvalidData for
    other files, and above `max_bytes`.
    """
    if len(data) > max_bytes:
        raise InvalidData(f"captions of more than {max_bytes // 1_000_000} MB")
    text = decode_text(data, language, charset).replace("\r\n", "\n").replace("\r", "\n")
    cues = read_webvtt(text)
    if cues is None:
        cues = read_subrip(text)
    if cues is None:
        raise InvalidData("the file is neither WebVTT nor SubRip")
    return cues
