"""Finds the media of a time range in the store and on this node's disk, and reads them as units."""

import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from gateway.formats.mp4.movie_reader import MAX_MOOV, MovieReader, is_start
from gateway.formats.mp4.stream import FragmentReader, fragment_places
from gateway.formats.recording import ForeignCodec, Packet
from gateway.formats.ts.packets import PACKET
from gateway.formats.ts.reader import TsReader
from gateway.lib.disk import close_file
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, MediaTrack
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.recording.mp4_recording import Mp4Recording
from gateway.outputs.recording.on_demand_recording import OnDemandRecording
from gateway.outputs.recording.on_demand_session import pieces as session_pieces
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.disk_threads import CHUNK, DiskThreads
from gateway.outputs.storage.recording_index import movie_seconds
from gateway.outputs.storage.stored_pieces import StoredPiece, StoredPieces
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.ports.media_keys import MediaKind
from gateway.ports.stores import ObjectStore

_HEAD: Final = 64 * 1024  # bytes in which the index of a short recording ends
JUMP_HEAD: Final = 2_000_000  # bytes in which the tables and the first picture of a segment must be
_JUMP_MARGIN: Final = 12.0  # seconds before a range: longer than most GOPs
_MIN_JUMP: Final = 4.0  # seconds; less is faster to read
_LAST_FRAGMENTS: Final = 3.0  # seconds at the end of a growing recording in which each track has a fragment
_MIN_GAP: Final = 2.0  # seconds without segments that are filled from MP4 recordings


@dataclass(frozen=True, slots=True)
class SourcePiece:
    """A piece to join. file: its open file on this node; None: it is in the store.

    growing: whether an MP4 is in fragments, as recorders write it.
    start, end: seconds since 1970; the end may be infinite for a growing piece.
    """

    piece: StoredPiece
    end: float
    file: BinaryIO | None = None
    growing: bool = False

    @property
    def start(self) -> float:
        return self.piece.start


class UnitReader(Protocol):
    """Returns the units of a piece, whose bytes arrive in order."""

    @property
    def has_video(self) -> bool: ...

    def receive(self, data: bytes) -> list[AccessUnit]: ...

    def finish(self) -> list[AccessUnit]: ...


class ClipSources:
    """Finds and opens the pieces of a time range. Methods raise StoreUnavailable, OutputError.

    On-demand segments come first, because they have one timeline. MP4 recordings fill the time without segments.
    Pieces of a live stream are on this node's disk, up to its newest picture. Files stay open, because finished files
    move to the store meanwhile.
    """

    def __init__(self, objects: ObjectStore, archive: Archive, finalizer: Mp4Finalizer) -> None:
        self._objects = objects
        self._archive = archive
        self._finalizer = finalizer
        self._stored = StoredPieces(objects)
        self.threads = DiskThreads(2, "clip")

    async def flush(self, stream: Stream | None) -> None:
        """Lets the recorders of a live stream write everything to the disk."""
        for recorder in _recorders(stream):
            await recorder.flush()

    async def find_newest(self, channel: str, stream: Stream | None, files: ExitStack) -> float | None:
        """Returns the end of the newest piece, seconds since 1970; None if there is none."""
        segments = await self._live_segments(channel, stream, float("inf"), float("inf"), files)
        if segments:
            return segments[-1].end
        stored = await self._stored.newest(channel)
        newest = stored.end if stored is not None else None
        for growing in await self._unfinished_movies(channel, files):
            seconds = await self.threads.run(partial(_fragment_seconds, growing.file)) if growing.growing else None
            if seconds is not None:
                newest = max(newest or 0.0, growing.start + seconds)
            elif growing.end != float("inf"):
                newest = max(newest or 0.0, growing.end)
        return newest

    async def find(
        self, channel: str, start: float, end: float, stream: Stream | None, files: ExitStack
    ) -> list[SourcePiece]:
        """Returns the pieces of a time range in order of time. files: closes their files."""
        # In this order, because finished pieces move from the recorder to the store.
        live = await self._live_segments(channel, stream, start, end, files)
        growing = await self._unfinished_movies(channel, files)
        by_key = {p.key: SourcePiece(p, p.end) for p in await self._stored.segments(channel, start, end)}
        by_key |= {p.piece.key: p for p in live}
        segments = sorted(by_key.values(), key=lambda p: (p.start, p.piece.key))
        gaps = _gaps(segments, start, end)
        if not gaps:
            return segments
        movies = {p.key: SourcePiece(p, p.end) for p in await self._stored.movies(channel, start, end)}
        movies |= {p.piece.key: p for p in growing if p.end > start and p.start < end}
        return _filled(segments, sorted(movies.values(), key=lambda p: (p.start, p.piece.key)), gaps)

    async def open_reader(
        self, piece: SourcePiece, near: int | None, start: float, end: float
    ) -> tuple[UnitReader, int, int | None]:
        """Returns the reader of a piece and the range of bytes that it takes; an end of None: all bytes.

        near: for a segment that continues the previous one, a time near its first time. start, end: the range to read.
        Raises InvalidData, NoSuchObject.
        """
        if piece.piece.kind is MediaKind.SEGMENT:
            return TsReader(near), 0, None
        if piece.growing:
            return FragmentUnits(), 0, None
        moov = await self._moov(piece)

        def select() -> tuple[MovieUnits, int, int]:
            reader = MovieReader(moov)
            return MovieUnits(reader), *reader.select(start - piece.start, end - piece.start)

        return await self.threads.run(select)

    async def find_position_before(self, piece: SourcePiece, start: float) -> int:
        """Returns a position in a piece that is probably before a key frame at or before `start`.

        Returns 0 for short segments and for finished MP4 recordings, which have an index. Raises NoSuchObject,
        InvalidData.
        """
        ahead = start - piece.start - _JUMP_MARGIN
        if ahead < _MIN_JUMP:
            return 0
        if piece.growing:
            return await self.threads.run(partial(_fragment_before, piece.file, ahead))
        if piece.piece.kind is not MediaKind.SEGMENT or piece.piece.seconds <= 0:
            return 0
        file = piece.file
        if file is not None:
            size = await self.threads.run(lambda: os.fstat(file.fileno()).st_size)
        else:
            try:
                size = (await self._objects.head(piece.piece.key)).size
            except NoSuchObject:  # the file was not moved to the store yet
                return 0
        return int(size * min(ahead / piece.piece.seconds, 1.0)) // PACKET * PACKET

    async def read(self, piece: SourcePiece, first: int, end: int | None) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of a piece from `first` to `end` (None: all). Raises NoSuchObject, OSError."""
        file = piece.file
        if file is None:
            file = await self.threads.run(lambda: self._archive.open_waiting(piece.piece.key), close_file)
        if file is None:
            async for chunk in self._objects.read(piece.piece.key, first, end):
                yield chunk
            return
        try:
            async for chunk in self.threads.read(file, first, end):
                yield chunk
        finally:
            if file is not piece.file:
                file.close()

    # ---- pieces of this node ----

    async def _live_segments(
        self, channel: str, stream: Stream | None, start: float, end: float, files: ExitStack
    ) -> list[SourcePiece]:
        """Returns the segments of the open session in a range; the last one if `start` is infinite."""
        recorder = next((r for r in _recorders(stream) if isinstance(r, OnDemandRecording)), None)
        opened = recorder.segments() if recorder is not None else None
        if opened is None:
            return []
        folder, entries = opened

        def find() -> list[SourcePiece]:
            pieces = session_pieces(channel, entries)
            chosen = [p for p in pieces if p.end > start and p.start < end] if start < float("inf") else pieces[-1:]
            return [SourcePiece(p, p.end, _opened(folder / p.key.rpartition("/")[2], files)) for p in chosen]

        return await self.threads.run(find)

    async def _unfinished_movies(self, channel: str, files: ExitStack) -> list[SourcePiece]:
        """Returns the MP4 recordings that are not in the store yet."""

        def find() -> list[SourcePiece]:
            found: list[SourcePiece] = []
            for start_ms, path in self._finalizer.unfinished(channel):
                file = _opened(path, files)
                if file is None:
                    continue
                growing = path.suffix == ".fmp4"
                seconds = 0.0 if growing else int(path.name.removesuffix(".done.mp4").rpartition("~")[2]) / 1000
                key = media_keys.video_key(channel, start_ms)
                piece = StoredPiece(key, MediaKind.VIDEO, start_ms / 1000, seconds, True)
                found.append(SourcePiece(piece, float("inf") if growing else piece.end, file, growing))
            for key in self._archive.waiting_keys(f"{channel}/mp4/"):
                parsed = media_keys.parse(key)
                file = self._archive.open_waiting(key) if parsed is not None else None
                if parsed is not None and file is not None:
                    files.callback(file.close)
                    known = movie_seconds(os.pread(file.fileno(), _HEAD, 0))
                    piece = StoredPiece(key, MediaKind.VIDEO, parsed.start, known or 0.0, True)
                    found.append(SourcePiece(piece, piece.end if known else float("inf"), file))
            # A growing recording ends before the next one.
            found.sort(key=lambda p: p.start)
            following = [p.start for p in found[1:]]
            return [replace(p, end=min(p.end, next)) for p, next in zip(found, following, strict=False)] + found[-1:]

        return await self.threads.run(find)

    async def _moov(self, piece: SourcePiece) -> bytes:
        """Returns the index of a finished recording, which is at its start. Raises InvalidData."""
        head = b"".join([chunk async for chunk in self.read(piece, 0, _HEAD)])
        at = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[at : at + 4], "big")
        if head[4:8] != b"ftyp" or head[at + 4 : at + 8] != b"moov" or not 8 <= size <= MAX_MOOV:
            raise InvalidData("MP4: no index at the start")
        if at + size > len(head):
            head += b"".join([chunk async for chunk in self.read(piece, len(head), at + size)])
        return head[at : at + size]


class MovieUnits:
    """The UnitReader of a finished recording. It leaves out what lies before the key frame of a range."""

    def __init__(self, reader: MovieReader) -> None:
        self._reader = reader
        self.has_video = reader.has_video

    def receive(self, data: bytes) -> list[AccessUnit]:
        return [_mark_start(unit) for unit in self._reader.receive(data)]

    def finish(self) -> list[AccessUnit]:
        return []


class FragmentUnits:
    """The UnitReader of a growing recording. Bytes after its last complete fragment are ignored."""

    def __init__(self) -> None:
        self._reader = FragmentReader()
        self._tracks: dict[Kind, MediaTrack] = {}
        self._began = False
        self.has_video = False

    def receive(self, data: bytes) -> list[AccessUnit]:
        units: list[AccessUnit] = []
        for event in self._reader.receive(data):
            if isinstance(event, Packet):
                units.append(self._unit(event))
            else:
                self.has_video = event.video is not None
        return units

    def jump(self) -> None:
        """Continues at another fragment, later in the recording."""
        self._reader.jump()

    def finish(self) -> list[AccessUnit]:
        return []

    def _unit(self, packet: Packet) -> AccessUnit:
        source = packet.track
        track = self._tracks.get(source.kind)
        if track is None:
            if isinstance(source.coding, ForeignCodec):
                raise InvalidData(f"MP4: a track of {source.coding}")
            track = self._tracks[source.kind] = MediaTrack(source.kind, source.coding, VIDEO_CLOCK, source.config)
        dts = packet.time * VIDEO_CLOCK // source.timescale
        shown = (packet.time + packet.cts) * VIDEO_CLOCK // source.timescale
        first = source.kind is Kind.VIDEO and not self._began
        self._began = self._began or first
        return _mark_start(AccessUnit(track, dts, shown - dts, packet.key or first, 0.0, packet.payload))


def _mark_start(unit: AccessUnit) -> AccessUnit:
    """Returns a unit, marked as a key frame if decoding can start at its picture."""
    if unit.track.kind is Kind.VIDEO and not unit.key:
        unit.key = is_start(unit)
    return unit


def _recorders(stream: Stream | None) -> list[OnDemandRecording | Mp4Recording]:
    found = [stream.output(name) for name in ("ondemand", "video")] if stream is not None else []
    return [recorder for recorder in found if isinstance(recorder, OnDemandRecording | Mp4Recording)]


def _opened(path: Path, files: ExitStack) -> BinaryIO | None:
    try:
        return files.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None  # it moved to the store meanwhile


def _fragment_before(file: BinaryIO | None, seconds: float) -> int:
    """Returns the position of the last fragment that begins at most `seconds` after the first one."""
    position, first = 0, None
    for at, time in fragment_places(_reader_of(file)):
        first = time if first is None else first
        if time - first > seconds:
            break
        position = at
    return position


def _fragment_seconds(file: BinaryIO | None) -> float | None:
    """Returns the seconds of a growing recording, from the times of its first and its last samples."""
    read, reader = _reader_of(file), FragmentUnits()
    recent: deque[tuple[int, float]] = deque()
    for position, time in fragment_places(read):
        recent.append((position, time))
        while recent[0][1] < time - _LAST_FRAGMENTS:
            recent.popleft()
    first = next(_shown(reader, read, 0), None) if recent else None
    if first is None:
        return None
    reader.jump()
    return (max(_shown(reader, read, recent[0][0]), default=first) - first) / VIDEO_CLOCK


def _shown(reader: FragmentUnits, read: Callable[[int, int], bytes], at: int) -> Iterator[int]:
    """Yields the presentation times of the pictures from a position on; without pictures, of the sound."""
    while chunk := read(CHUNK, at):
        at += len(chunk)
        for unit in reader.receive(chunk):
            if unit.track.kind is Kind.VIDEO or not reader.has_video:
                yield unit.dts + unit.cts


def _reader_of(file: BinaryIO | None) -> Callable[[int, int], bytes]:
    assert file is not None  # growing recordings are on this node
    return partial(os.pread, file.fileno())


def _gaps(segments: Sequence[SourcePiece], start: float, end: float) -> list[tuple[float, float]]:
    """Returns the times of the range without segments, but no pause of the push: then the next segment continues."""
    gaps: list[tuple[float, float]] = []
    at = start
    for piece in segments:
        if piece.start - at > _MIN_GAP and piece.piece.discontinuity:
            gaps.append((at, piece.start))
        at = max(at, piece.end)
    if end - at > _MIN_GAP or not segments:
        gaps.append((at, end))
    return gaps


def _filled(
    segments: list[SourcePiece], movies: list[SourcePiece], gaps: list[tuple[float, float]]
) -> list[SourcePiece]:
    """Returns the segments and the recordings that lie in the gaps.

    Between segments only whole recordings are used, so that no picture is shown twice.
    """
    if not segments:
        return movies
    chosen = [m for m in movies if any(m.start >= a - _MIN_GAP and m.end <= b + _MIN_GAP for a, b in gaps)]
    return sorted([*segments, *chosen], key=lambda p: p.start)
