"""Recorder: the output `video`: MP4 files of `video_time` seconds that together hold every frame of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.hub.errors import OutputUnsupported
from gateway.sinks.capture import RecordingCounts
from gateway.sinks.cutter import Opening
from gateway.sinks.cutting import Cutting
from gateway.sinks.growing import Growing
from gateway.sinks.movie import Movie

if TYPE_CHECKING:
    from gateway.hub.stream import Stream
    from gateway.media.track import Tracks
    from gateway.sinks.archive import Archive
    from gateway.sinks.finisher import Finisher

VIDEO_TIME: Final = "video_time"


@dataclass(slots=True)
class _Piece:
    """A piece and its file, once there was something to write."""

    movie: Movie
    file: Growing | None = None


class Recorder(Cutting):
    """Writes each piece as fragments into a file of its own, and gives it to the Finisher when it is complete.

    Constant memory: about a second of media. A new epoch of the stream (the publisher came back, tracks changed) begins
    a new piece. Where writing fails, what is on disk so far becomes a shorter piece.
    """

    def __init__(self, stream: Stream, archive: Archive, finisher: Finisher, counts: RecordingCounts) -> None:
        super().__init__(stream, counts, VIDEO_TIME)
        self._archive = archive
        self._finisher = finisher
        self._open: list[_Piece] = []  # oldest first
        self._pieces = 0
        self._bytes = 0

    def report(self) -> dict[str, Any]:
        return {**super().report(), "pieces": self._pieces, "bytes": self._bytes}

    def begin_epoch(self, tracks: Tracks) -> None:
        """Every piece describes its tracks itself."""

    def look(self) -> None:
        for piece in self._open:
            movie = piece.movie
            if movie.waits or movie.closed:
                self._waits = True
            elif movie.refused is not None:
                raise OutputUnsupported(movie.refused)

    async def store(self) -> None:
        self._waits = False
        for piece in self._open:
            if data := piece.movie.take():
                self._bytes += sum(map(len, data))
                await self._archive.threads.run(partial(self._write, piece, data))
        for piece in [p for p in self._open if p.movie.closed]:
            self._open.remove(piece)
            self._hand_over(piece)

    async def finish(self, failed: bool) -> None:
        self._end_cutter()
        try:
            if not failed:
                await self.store()
        finally:
            for piece in self._open:
                self._hand_over(piece)
            self._open = []
            self._epoch = None  # what begins anew begins with its tracks

    def begin_piece(self, opening: Opening) -> Movie:
        movie = Movie(opening)
        self._open.append(_Piece(movie))
        return movie

    def _write(self, piece: _Piece, data: list[bytes]) -> None:
        """In a thread."""
        self._archive.check_room()
        if piece.file is None:
            piece.file = Growing(self._finisher.new(self._stream.name, int(piece.movie.wall * 1000)))
        piece.file.append(data)

    def _hand_over(self, piece: _Piece) -> None:
        self._count_dropped(piece.movie.dropped)
        if piece.file is not None:
            self._pieces += 1
            piece.file.close()
            self._finisher.finish(piece.file.path)
            self._counts.finished["video"] = self._counts.finished.get("video", 0) + 1
