"""Writes the samples of a movie to a file, in chunks in which its tracks alternate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, Final

from gateway.formats.mp4.init import TrackInit
from gateway.formats.mp4.movie import MovieHead, MovieTrack, add_description, movie_head, new_track
from gateway.formats.mp4.tables import Access
from gateway.formats.mp4.timed_text import new_text_track, text_samples
from gateway.media import codecs
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Kind

_CHUNK_TICKS: Final = VIDEO_CLOCK // 2
_CHUNK_BYTES: Final = 1_000_000
_MAX_DESCRIPTIONS: Final = 255


class CannotJoin(Exception):
    """The pieces do not fit into one movie. The text says why, for users."""


@dataclass(slots=True)
class Sample:
    """A sample that is not written yet. Times are in ticks of the movie's track."""

    dts: int
    cts: int
    duration: int
    access: Access
    payload: bytes


@dataclass(slots=True)
class WrittenTrack:
    """A track of the movie. Its newest samples wait for the end of their chunk.

    descriptions: number of the sample description, by configuration. description: the current one.
    last: decode time of the last sample. end: presentation end of all samples. Both are in ticks of the track.
    """

    movie: MovieTrack
    codec: str
    descriptions: dict[bytes, int]
    description: int = 1
    chunk: list[Sample] = field(default_factory=list)
    chunk_bytes: int = 0
    last: int = -(1 << 62)
    end: int = 0

    @property
    def shown_end(self) -> int:
        """The presentation end of all samples, in ticks of 90 kHz."""
        return self.end * VIDEO_CLOCK // self.movie.timescale


class MovieFile:
    """The media of a movie with at most one track of each kind. Memory: about 24 bytes for each sample.

    media: an empty file. Its methods raise OSError of the file.
    """

    def __init__(self, media: BinaryIO) -> None:
        self.by_kind: dict[Kind, WrittenTrack] = {}
        self._texts: list[WrittenTrack] = []
        self._media = media
        self._size = self._checked_size = 0

    @property
    def tracks(self) -> list[WrittenTrack]:
        """The tracks, pictures before sound before captions."""
        return [*(self.by_kind[kind] for kind in (Kind.VIDEO, Kind.AUDIO) if kind in self.by_kind), *self._texts]

    def check_growth(self, size: int) -> bool:
        """Returns whether the file has grown by `size` bytes since the last call that returned True."""
        if self._size - self._checked_size < size:
            return False
        self._checked_size = self._size
        return True

    def track_for(self, unit: AccessUnit) -> WrittenTrack:
        """Returns the track of the movie for this unit, with its sample description. Raises CannotJoin, InvalidData."""
        track = unit.track
        is_video = track.kind is Kind.VIDEO
        written = self.by_kind.get(track.kind)
        if written is not None:
            if written.codec == track.codec and written.descriptions.get(track.config) == written.description:
                return written
            if written.codec != track.codec:
                raise CannotJoin(
                    f"the {track.kind} changes from {written.codec} to {track.codec} in this time: "
                    "take the parts one by one"
                )
        scale = VIDEO_CLOCK if is_video else codecs.audio_rate(track, unit.payload)
        size = codecs.video_size(track, unit.payload) if is_video else None
        init = TrackInit(track, 1 if is_video else 2, scale, size, unit.payload)
        if written is None:
            written = self.by_kind[track.kind] = WrittenTrack(new_track(init), track.codec, {track.config: 1})
            return written
        self._write(written)
        number = written.descriptions.get(track.config)
        if number is None:
            number = len(written.descriptions) + 1
            if number > _MAX_DESCRIPTIONS:
                raise CannotJoin(f"the {track.kind} changes too often in this time: take a shorter time")
            add_description(written.movie, init)
            written.descriptions[track.config] = number
        written.description = number
        return written

    def put(self, track: WrittenTrack, sample: Sample) -> None:
        """Adds a sample to one of the tracks."""
        track.last = sample.dts
        track.end = max(track.end, sample.dts + sample.cts + sample.duration)
        track.chunk.append(sample)
        track.chunk_bytes += len(sample.payload)
        ticks = sample.dts - track.chunk[0].dts
        if track.chunk_bytes > _CHUNK_BYTES or ticks * VIDEO_CLOCK > _CHUNK_TICKS * track.movie.timescale:
            self._write(track)

    def add_captions(self, start: int, end: int, cues: Sequence[CaptionCue], language: str) -> None:
        """Adds a track with captions from `start` to `end`, after all other samples. Times: of the movie, 90 kHz."""
        first = self.tracks[0].movie
        track = WrittenTrack(new_text_track(3 + len(self._texts), (first.width, first.height), language), "tx3g", {})
        self._texts.append(track)
        for duration, sample in text_samples(start, end, cues):
            self.put(track, Sample(start, 0, duration, Access.SYNC, sample))
            start += duration
        self._write(track)
        self._media.flush()

    def write_rest(self) -> None:
        """Writes the samples that wait for the end of their chunk."""
        for track in self.tracks:
            self._write(track)
        self._media.flush()

    def head(self, start: int, end: int, started: float) -> MovieHead:
        """Returns the head of the movie. An edit list shows the range from `start` to `end`, in ticks of 90 kHz."""
        for track in self.tracks:
            table, scale = track.movie.table, track.movie.timescale
            table.shown_start = max(table.shown_start, start * scale // VIDEO_CLOCK)
            table.shown_end = max(min(table.shown_end, -(-end * scale // VIDEO_CLOCK)), table.shown_start + 1)
        return movie_head([track.movie for track in self.tracks], started)

    def _write(self, track: WrittenTrack) -> None:
        """Writes the waiting samples as one chunk."""
        samples, track.chunk, track.chunk_bytes = track.chunk, [], 0
        if not samples:
            return
        for sample, following in pairwise(samples):
            sample.duration = following.dts - sample.dts
        track.movie.table.add(
            samples[0].dts,
            [s.duration for s in samples],
            [len(s.payload) for s in samples],
            [s.access for s in samples],
            [s.cts for s in samples],
            self._size,
            track.description,
        )
        data = b"".join([s.payload for s in samples])
        self._media.write(data)
        self._size += len(data)
