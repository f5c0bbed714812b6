"""The output `video`: MP4 files of `video_time` seconds that together hold every frame of the stream."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.channels.channel import Channel
from gateway.live.additional_sinks import AdditionalSinks
from gateway.live.pushed_tracks import MAX_PUSHED
from gateway.live.stream import Stream
from gateway.live.subscription import AdditionalUnit, Subscription
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.timed_data import AdCue
from gateway.media.track import TimedData, Tracks
from gateway.outputs.recording.additional_track import AdditionalTrack
from gateway.outputs.recording.break_chapters import BreakChapters
from gateway.outputs.recording.cutter import PieceStart
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer, parse_unfinished
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.outputs.recording.recorded_captions import RecordedCaptions
from gateway.outputs.recording.recording_output import RecordingCounts, SegmentedRecording
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import LockedFile
from gateway.ports.errors import OutputUnsupported


@dataclass(slots=True)
class _PieceFile:
    """A piece and its file, which is created with the first data."""

    movie: Mp4Piece
    file: LockedFile | None = None


class Mp4Recording(SegmentedRecording):
    """Writes each piece as fragments into its own file, and passes complete files to the Mp4Finalizer.

    Memory is constant, about a second of media.
    A new epoch of the stream (the publisher reconnected, or tracks changed) begins a new piece.
    If writing fails, the part on disk becomes a shorter piece.
    Additional tracks that the channel chose (`recordTracks`) are in the same files. Chapters begin at ad cues.
    """

    def __init__(self, stream: Stream, archive: Archive, finalizer: Mp4Finalizer, counts: RecordingCounts) -> None:
        super().__init__(stream, archive, finalizer, counts, "video_time")
        self._open: list[_PieceFile] = []  # oldest first
        self._additional: dict[str, AdditionalTrack] = {}
        self._sinks: AdditionalSinks | None = None
        self._pieces = 0
        self._captions = RecordedCaptions(stream, archive)
        self._chapters = BreakChapters()

    def report(self) -> dict[str, Any]:
        status = {**super().report(), "pieces": self._pieces, "bytes": self._bytes}
        if self._open:
            status["openSince"] = self._open[-1].movie.wall_clock
        return status

    def begin_epoch(self, tracks: Tracks) -> None:
        """Does nothing: every piece contains its own tracks."""

    def on_timed(self, timed: TimedData) -> None:
        value = timed.counted(MILLISECONDS).value
        if isinstance(value, AdCue):
            self._chapters.add(value)

    # ---- additional tracks ----

    def add_additional_tracks(self, stream: Stream, subscription: Subscription) -> Callable[[], None]:
        sinks = self._sinks = AdditionalSinks(
            stream, subscription, lambda track: self._channel.record_tracks.includes(track.name, track.info.language)
        )
        return sinks.close

    def read_channel(self, channel: Channel) -> None:
        super().read_channel(channel)
        if self._sinks is not None:
            self._sinks.update()

    def on_additional(self, item: AdditionalUnit) -> None:
        additional = self._additional.get(item.name)
        if additional is None or additional.track != item.unit.track:
            pushed = self._stream.pushed_tracks.by_name.get(item.name)
            if pushed is None or len(self._additional) > MAX_PUSHED:
                return
            try:
                additional = self._additional[item.name] = AdditionalTrack(pushed, item.unit)
            except InvalidData:  # only this track cannot be recorded
                self._dropped += 1
                return
        additional.hold(item.unit)
        if self._cutter is not None:
            self._cutter.has_additional = True

    def _write_additional(self, *, all_held: bool = False) -> None:
        """Writes the units of additional tracks that the default tracks have reached."""
        cutter = self._cutter
        if cutter is None or not self._open:
            return
        current = self._open[-1].movie
        previous = self._open[-2].movie if len(self._open) > 1 and not self._open[-2].movie.closed else None
        for additional in self._additional.values():
            additional.write(None if all_held else cutter.reached, cutter.cut, previous, current)

    def _end_cutter(self) -> None:
        self._write_additional(all_held=True)
        super()._end_cutter()
        self._count_dropped(sum(additional.dropped for additional in self._additional.values()))
        self._additional = {}

    def check_pieces(self) -> None:
        if self._additional:
            self._write_additional()
        for piece in self._open:
            movie = piece.movie
            if movie.has_data or movie.closed:
                self.has_data_to_store = True
            elif movie.unsupported is not None:
                raise OutputUnsupported(movie.unsupported)

    def flush_pieces(self) -> None:
        for piece in self._open:
            piece.movie.flush()

    async def store(self) -> None:
        self.has_data_to_store = False
        self._captions.collect()
        for piece in self._open:
            if data := piece.movie.pop_data():
                self._bytes += sum(map(len, data))
                await self._archive.threads.run(partial(self._write, piece, data))
        for piece in [p for p in self._open if p.movie.closed]:
            self._open.remove(piece)
            await self._finalize(piece)

    async def finish(self, failed: bool) -> None:
        self._end_cutter()
        try:
            if not failed:
                await self.store()
        finally:
            for piece in self._open:
                await self._finalize(piece)
            self._open = []
            self._epoch = None  # the next recording begins with its tracks

    def begin_piece(self, start: PieceStart) -> Mp4Piece:
        about = self._stream.pushed_tracks.default
        movie = Mp4Piece(replace(start, language=about.language, label=about.label))
        self._open.append(_PieceFile(movie))
        return movie

    def _write(self, piece: _PieceFile, data: list[bytes]) -> None:
        """Appends to the piece's file. Runs in a thread."""
        self._archive.check_free_space()
        if piece.file is None:
            piece.file = LockedFile(self._finalizer.new_path(self._stream.name, int(piece.movie.wall_clock * 1000)))
        piece.file.append(data)

    async def _finalize(self, piece: _PieceFile) -> None:
        movie = piece.movie
        self._count_dropped(movie.dropped)
        if piece.file is not None:
            self._pieces += 1
            piece.file.close()
            name = parse_unfinished(piece.file.path.name)
            if name is not None and movie.begin is not None and movie.closed:
                await self._captions.store(*name, piece.file.path.parent, movie.begin, movie.end)
            self._finalizer.finish(piece.file.path, self._chapters.chapters)
            self._counts.finished["video"] += 1
