"""Writes a WebVTT track as an initialization segment and fragments (ISO/IEC 14496-30), for DASH and CMAF."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from gateway.formats.captions.webvtt import cue_settings, cue_text
from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import media_box, movie_header, track_extends, track_header
from gateway.media.caption_cue import CaptionCue

TIMESCALE: Final = 90_000
# ISO/IEC 23000-19 annex A: 'cwvt' is the media profile of WebVTT tracks.
_FTYP: Final = box(b"ftyp", b"iso6", (0).to_bytes(4, "big"), b"iso6cmfccwvt")
_EMPTY: Final = box(b"vtte")  # §7.3: nothing is shown


def wvtt_init(track_id: int = 1, language: str = "") -> bytes:
    """Returns ftyp + moov with one WebVTT track, for the fragments of `wvtt_fragment`.

    language: BCP 47; "": unknown.
    """
    # §7.5: WVTTSampleEntry with the header of the file, which has no regions or styles here.
    entry = box(b"wvtt", struct.pack(">6xH", 1), box(b"vttC", b"WEBVTT"))
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), b"text", bytes(12), b"TextHandler\x00")
    mdia = media_box(TIMESCALE, language, hdlr, full_box(b"nmhd", 0, 0), entry)
    trak = box(b"trak", track_header(track_id, 0, 0, 0, 0), mdia)
    return _FTYP + box(b"moov", movie_header(TIMESCALE, 0, track_id + 1), trak, box(b"mvex", track_extends(track_id)))


def wvtt_fragment(
    sequence: int, start: int, end: int, cues: Sequence[CaptionCue], *, track_id: int = 1, styp: bool = False
) -> bytes:
    """Returns moof + mdat with samples that cover [start, end) without gaps, ticks of 90 kHz.

    A cue without an end is shown until `end`. Cues outside are ignored. styp: adds the box at the start of a segment.
    """
    return fragment(sequence, track_id, start, list(_samples(start, end, cues)), styp=styp)


def _samples(start: int, end: int, cues: Sequence[CaptionCue]) -> Iterator[Mp4Sample]:
    """Yields one sample for each time in which the same cues are shown."""
    clipped = ((max(cue.start, start), end if cue.end is None else min(cue.end, end), _cue_box(cue)) for cue in cues)
    shown = sorted((cue for cue in clipped if cue[0] < cue[1] and cue[2]), key=lambda cue: cue[0])
    moments = sorted({start, max(start, end), *(moment for cue in shown for moment in cue[:2])})
    active: list[tuple[int, int, bytes]] = []
    following = 0
    for at, until in pairwise(moments):
        active = [cue for cue in active if cue[1] > at]
        while following < len(shown) and shown[following][0] == at:
            active.append(shown[following])
            following += 1
        yield Mp4Sample(until - at, 0, True, b"".join(cue[2] for cue in active) or _EMPTY)


def _cue_box(cue: CaptionCue) -> bytes:
    """Returns vttc (§7.3); b"" without a text. All samples of a cue have its number in vsid."""
    text = cue_text(cue.text).encode("utf-8", "replace")
    if not text:
        return b""
    number = zlib.crc32(text, cue.start & 0xFFFF_FFFF) >> 1
    settings = cue_settings(cue).encode()
    place = box(b"sttg", settings) if settings else b""
    return box(b"vttc", box(b"vsid", number.to_bytes(4, "big")), place, box(b"payl", text))
