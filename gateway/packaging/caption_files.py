"""The files of caption tracks: WebVTT for HLS, WebVTT in MP4 (ISO/IEC 14496-30) for DASH, and their playlists.

A caption track has the segments and parts of the stream's main track, with the same numbers and names.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.formats.captions.webvtt import webvtt
from gateway.formats.hls.media_playlist import MARK
from gateway.formats.hls.multivariant_playlist import SubtitleRendition
from gateway.formats.mp4.webvtt_track import wvtt_fragment
from gateway.formats.ts.muxer import DELAY
from gateway.media.caption_cue import CaptionCue
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import VIDEO_CLOCK
from gateway.packaging.caption_pieces import CaptionPieces, join_pieces
from gateway.packaging.segment_window import Segment

VTT: Final = "text/vtt"
TS_DELAY: Final = DELAY  # ticks from stream time to MPEG-2 time
_URI: Final = re.compile(rf"\.(?:m4s|ts)(?={MARK})")
_MAP: Final = re.compile(r"#EXT-X-MAP:.*\n")


def subtitle_renditions(tracks: Iterable[CaptionTrack], playlist: str, path: str = "") -> list[SubtitleRendition]:
    """Returns the caption tracks of a multivariant playlist.

    playlist: the file name of their playlists. path: from the multivariant playlist to the stream's folder.
    """
    return [SubtitleRendition(t.label, f"{path}{t.folder}/{playlist}", t.language, t.default) for t in tracks]


def caption_playlist(playlist: str) -> str:
    """Returns the playlist of a caption track from that of the main track, in the folder of a caption track.

    Both have the same segments. Text needs no initialization segment.
    """
    return _URI.sub(".vtt", _MAP.sub("", playlist))


def segment_captions(segment: Segment) -> CaptionPieces | None:
    return segment.captions if segment.captions is not None else join_pieces(part.captions for part in segment.parts)


def vtt_file(cues: Sequence[CaptionCue], base: int, delay: int = 0) -> bytes:
    """Returns the WebVTT of one segment or part.

    base: stream time of the file's time zero, ticks of 90 kHz. delay: ticks from there to MPEG-2 time zero.
    """
    # Times in the file count from `base`. hls.js ignores a map to MPEG-2 time zero, so that is no moment of it.
    first = min((cue.start for cue in cues), default=base) - base
    local = max(first // VIDEO_CLOCK, 1) * VIDEO_CLOCK
    return webvtt(cues, base, (local + delay, local))


def dash_segment(segment: Segment, track: str, base: int) -> bytes:
    """Returns a segment of WebVTT in MP4, with 90,000 ticks a second. base: see `vtt_file`."""
    start = segment.time * VIDEO_CLOCK // segment.clock
    end = (segment.time + segment.length) * VIDEO_CLOCK // segment.clock
    captions = segment_captions(segment) or {}
    cues = [cue.moved(-base) for cue in captions.get(track, ())]
    return wvtt_fragment(segment.number, start, end, cues)
