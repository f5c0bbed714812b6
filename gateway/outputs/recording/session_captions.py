"""The captions of an on-demand session: a WebVTT file beside each segment that has some, and a multivariant playlist.

Subtitle playlists are not stored. They have the segments of the session's playlist, so they are made from that.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import Variant, multivariant
from gateway.live.stream import Stream
from gateway.media import codecs
from gateway.media.caption_track import CaptionTrack
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.picture_colors import colors_of
from gateway.media.track import Tracks
from gateway.outputs.recording.on_demand_session import RecordedSegment
from gateway.outputs.recording.recorded_captions import keep_captions
from gateway.outputs.storage.archive import Archive
from gateway.packaging.caption_files import TS_DELAY, subtitle_renditions, vtt_file
from gateway.packaging.caption_pieces import CaptionCutter
from gateway.ports import media_keys

MAX_CAPTIONS: Final = 5_000_000  # bytes of the captions of one segment
_VERSION: Final = 4  # EXT-X-VERSION: EXT-X-MEDIA


class SessionCaptions:
    """Stores the captions of a recording's sessions. A track is listed as soon as a segment has its captions.

    A crash loses the captions of the open segment. What cannot be stored is left out, with a warning.
    See `CaptionCutter.collect`.
    """

    def __init__(self, stream: Stream, archive: Archive) -> None:
        self._channel = stream.name
        self._captions = stream.captions
        self._archive = archive
        self._cutter = CaptionCutter(stream.captions)
        self.collect = self._cutter.collect
        self._tracks: dict[str, CaptionTrack] = {}  # with captions in this session, by their id
        self._listed = 0  # how many of them the stored playlist lists
        self._codecs: dict[str, None] = {}  # of this session
        self._size: tuple[int, int] | None = None
        self._range = "SDR"
        self._rate: float | None = None

    def add_tracks(self, tracks: Tracks) -> None:
        """Takes the tracks of an epoch of this session. They must be valid for MPEG-TS."""
        self._codecs |= dict.fromkeys(codecs.codec_string(track) for track in tracks)
        if tracks.video is not None:
            self._size = codecs.display_size(tracks.video)
            self._range = colors_of(tracks.video).signal.range
            is_hdr = self._range != "SDR"  # AVPlayer discards it without a rate
            self._rate = codecs.declared_frame_rate(tracks.video, tracks.metadata) if is_hdr else None

    def end(self) -> None:
        """Prepares for the next session."""
        self._tracks, self._codecs, self._listed = {}, {}, 0

    def keys(self, segments: Iterable[str]) -> Iterator[str]:
        """Yields the keys that the captions of these segments may have."""
        return (media_keys.segment_captions_key(key, track) for key in segments for track in self._tracks)

    async def store(self, folder: Path, number: int, begin: int, end: int) -> None:
        """Stores the captions of a segment. Call it for each segment in order.

        folder: for unfinished files. begin, end: presentation times of the segment, in ticks of 90 kHz.
        """
        offered = {track.id: track for track in self._captions.texts}
        for track, cues in (self._cutter.cut(begin, end, VIDEO_CLOCK) or {}).items():
            if track not in offered:
                continue
            key = media_keys.segment_captions_key(media_keys.segment_key(self._channel, number), track)
            data = vtt_file(cues, 0, TS_DELAY)
            await keep_captions(self._archive, key, folder / f"{number}.{track}.vtt", data, replace=True)
            self._tracks.setdefault(track, offered[track])

    async def publish(self, folder: Path, start_ms: int, entries: Sequence[RecordedSegment], last: bool) -> None:
        """Stores the multivariant playlist if it lists more tracks than before, or is the last one.

        start_ms: in the name of the session. entries: its segments.
        """
        if self._tracks and (last or self._listed < len(self._tracks)):
            self._listed = len(self._tracks)
            playlist = media_keys.playlist_key(self._channel, start_ms)
            key = media_keys.multivariant_key(playlist)
            data = media_playlist.with_suffix(self._multivariant(playlist, entries))
            await keep_captions(self._archive, key, folder / "multivariant", data, replace=True)

    def _multivariant(self, playlist: str, entries: Sequence[RecordedSegment]) -> str:
        subtitles = [
            replace(rendition, uri=_name(media_keys.playlist_captions_key(playlist, track)))
            for track, rendition in zip(self._tracks, subtitle_renditions(self._tracks.values(), ""), strict=True)
        ]
        variant = Variant(
            uri=_name(playlist),
            bandwidth=max(int(entry.bytes * 8 / max(entry.seconds, 0.001)) for entry in entries) + 1,
            average=int(sum(e.bytes for e in entries) * 8 / max(sum(e.seconds for e in entries), 0.001)) + 1,
            codecs=tuple(self._codecs),
            size=self._size,
            frame_rate=self._rate,
            captions=self._captions.closed,
            range=self._range,
        )
        return multivariant([variant], (), subtitles, version=_VERSION)


def _name(key: str) -> str:
    return key.rpartition("/")[2]
