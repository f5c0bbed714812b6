"""Writes a WebVTT track as an initialization segment and fragments (ISO/IEC 14496-30), for DASH and CMAF."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.formats.captions.webvtt import cue_settings, cue_text
from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.cue_spans import cue_spans
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import media_box, movie_header, track_extends, track_header
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK

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
    mdia = media_box(VIDEO_CLOCK, language, hdlr, full_box(b"nmhd", 0, 0), entry)
    trak = box(b"trak", track_header(track_id, 0, 0, 0, 0), mdia)
    return _FTYP + box(b"moov", movie_header(VIDEO_CLOCK, 0, track_id + 1), trak, box(b"mvex", track_extends(track_id)))


def wvtt_fragment(
    sequence: int, start: int, end: int, cues: Sequence[CaptionCue], *, track_id: int = 1, styp: bool = False
) -> bytes:
    """Returns moof + mdat with samples that cover [start, end) without gaps, ticks of 90 kHz.

    A cue without an end is shown until `end`. Cues outside are ignored. styp: adds the box at the start of a segment.
    """
    return fragment(sequence, track_id, start, list(_samples(start, end, cues)), styp=styp)


def _samples(start: int, end: int, cues: Sequence[CaptionCue]) -> Iterator[Mp4Sample]:
    for at, until, shown in cue_spans(start, end, cues):
        yield Mp4Sample(until - at, 0, True, b"".join(map(_cue_box, shown)) or _EMPTY)


def _cue_box(cue: CaptionCue) -> bytes:
    """Returns vttc (§7.3). All samples of a cue have its number in vsid."""
    text = cue_text(cue.text).encode("utf-8", "replace")
    number = zlib.crc32(text, cue.start & 0xFFFF_FFFF) >> 1
    settings = cue_settings(cue).encode()
    place = box(b"sttg", settings) if settings else b""
    return box(b"vttc", box(b"vsid", number.to_bytes(4, "big")), place, box(b"payl", text))
