"""A recording output that cuts the stream into pieces of about equal length, with one cutter for each epoch."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from gateway.live.track_changes import IntervalLimiter
from gateway.outputs.recording.cutter import MAX_BURST, Cutter, Piece, PieceStart
from gateway.outputs.recording.recording_output import RecordingCounts, RecordingOutput

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.stream import Stream
    from gateway.media.track import Tracks
    from gateway.media.unit import AccessUnit


class SegmentedRecording(RecordingOutput):
    """Base of outputs that record in pieces; subclasses make the pieces and store them.

    time: the channel's field with the seconds of a piece.
    """

    def __init__(self, stream: Stream, counts: RecordingCounts, time: str) -> None:
        super().__init__(stream, counts)
        self._time = time
        self._cutter: Cutter | None = None
        self._pace = IntervalLimiter(MAX_BURST)
        self._epoch: int | None = None
        self._waits = False  # there is something to store

    # ---- subclasses ----

    @abc.abstractmethod
    def begin_epoch(self, tracks: Tracks) -> None:
        """Takes other tracks, or the start of a new timeline. Raises OutputUnsupported."""

    @abc.abstractmethod
    def begin_piece(self, opening: PieceStart) -> Piece:
        """Makes a piece; called by the cutter."""

    @abc.abstractmethod
    def check_pieces(self) -> None:
        """Sets `_waits` if there is something to store; called after each unit. Raises OutputUnsupported. Hot path."""

    # ---- RecordingOutput ----

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
            self._cutter = Cutter(tracks, self._channel.number(self._time), self.begin_piece, self._pace)

    def take(self, unit: AccessUnit) -> None:
        if self._cutter is not None:
            self._cutter.add(unit)
            self.check_pieces()

    @property
    def due(self) -> bool:
        return self._waits

    def _end_cutter(self) -> None:
        """Ends the cutter; the units that it holds go to its pieces."""
        if self._cutter is not None:
            self._cutter.finish()
            self._count_dropped(self._cutter.dropped)
            self._waits = True
        self._cutter = None
