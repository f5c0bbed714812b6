"""Cutting: a Capture whose stream is dealt out to pieces of about equal length, one cutter for each epoch."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from gateway.sinks.capture import Capture, RecordingCounts
from gateway.sinks.cutter import Cutter, Opening, Piece

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.stream import Stream
    from gateway.media.track import Tracks
    from gateway.media.unit import AccessUnit


class Cutting(Capture):
    """Subclasses make the pieces and store them. time: the channel's field with the seconds of a piece."""

    def __init__(self, stream: Stream, counts: RecordingCounts, time: str) -> None:
        super().__init__(stream, counts)
        self._time = time
        self._cutter: Cutter | None = None
        self._epoch: int | None = None
        self._waits = False  # something is to be stored

    # ---- subclasses ----

    @abc.abstractmethod
    def begin_epoch(self, tracks: Tracks) -> None:
        """Other tracks, or a timeline that does not go on. Raises OutputUnsupported."""

    @abc.abstractmethod
    def begin_piece(self, opening: Opening) -> Piece:
        """The cutter's call."""

    @abc.abstractmethod
    def look(self) -> None:
        """Hot: after each unit; sets `_waits`. Raises OutputUnsupported."""

    # ---- Capture ----

    def read_channel(self, channel: Channel) -> None:
        if self._cutter is not None:
            self._cutter.seconds = channel.number(self._time)

    def take_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch == self._epoch:
            return
        self._epoch = tracks.epoch
        self._end_cutter()
        if tracks.video is not None or tracks.audio is not None:
            self.begin_epoch(tracks)
            self._cutter = Cutter(tracks, self._channel.number(self._time), self.begin_piece)

    def take(self, unit: AccessUnit) -> None:
        if self._cutter is not None:
            self._cutter.add(unit)
            self.look()

    @property
    def due(self) -> bool:
        return self._waits

    def _end_cutter(self) -> None:
        """What it holds goes to its pieces."""
        if self._cutter is not None:
            self._cutter.finish()
            self._count_dropped(self._cutter.dropped)
            self._waits = True
        self._cutter = None
