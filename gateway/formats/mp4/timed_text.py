"""Writes timed text (3GPP TS 26.245, `tx3g`): the captions of a finished movie, which most players know."""

import struct
from collections.abc import Sequence
from typing import Final

from gateway.formats.captions.cue_lines import shown_text
from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.cue_spans import cue_spans
from gateway.formats.mp4.init import media_box, packed_language
from gateway.formats.mp4.movie import MovieTrack
from gateway.formats.mp4.reader import find, need
from gateway.formats.mp4.tables import Table
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK

_MAX_TEXT: Final = 0xFFFF  # bytes
_CENTER, _BOTTOM = 1, -1
_FONT: Final = b"Sans-Serif"
_FONT_SIZE: Final = 18
_WHITE: Final = b"\xff\xff\xff\xff"


def new_text_track(track_id: int, size: tuple[int, int], language: str = "") -> MovieTrack:
    """Returns a track without samples. size: of the picture, in 65,536ths of a pixel. language: BCP 47; "": unknown."""
    width, height = (min(side >> 16, 0x7FFF) for side in size)
    # §5.16: the text box is the picture, and one style is for all text.
    style = struct.pack(">HHHBB", 0, 0, 1, 0, _FONT_SIZE) + _WHITE
    fonts = box(b"ftab", struct.pack(">HHB", 1, 1, len(_FONT)), _FONT)
    form = struct.pack(">6xHIbb4x4h", 1, 0, _CENTER, _BOTTOM, 0, 0, height, width)
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), b"sbtl", bytes(12), b"SubtitleHandler\x00")
    header = full_box(b"nmhd", 0, 0)
    mdia = media_box(VIDEO_CLOCK, language, hdlr, header, box(b"tx3g", form, style, fonts))
    minf = need(mdia, None, b"mdia", b"minf")
    stsd, dinf = need(mdia, minf, b"stbl", b"stsd"), need(mdia, minf, b"dinf")
    elng = find(mdia, b"mdia", b"elng")
    names = hdlr if elng is None else mdia[elng.start : elng.end] + hdlr
    kept = names, header, mdia[dinf.start : dinf.end]
    described = mdia[stsd.start : stsd.end]
    return MovieTrack(track_id, VIDEO_CLOCK, False, *size, described, kept, Table(), packed_language(language), 0)


def text_samples(start: int, end: int, cues: Sequence[CaptionCue]) -> list[tuple[int, bytes]]:
    """Returns (duration, sample) of samples that cover [start, end). Texts at one time are lines of one sample."""
    return [
        (until - at, _sample("\n".join(shown_text(cue.text) for cue in shown)))
        for at, until, shown in cue_spans(start, end, cues)
    ]


def _sample(text: str) -> bytes:
    """Returns a sample (§5.17): its length, then UTF-8."""
    data = text.encode("utf-8", "replace")[:_MAX_TEXT].decode("utf-8", "ignore").encode()
    return len(data).to_bytes(2, "big") + data
