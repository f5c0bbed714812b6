"""Makes clips, which are stored, and exports, which are sent to one client."""

import errno
import math
import os
import secrets
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from gateway.channels.channel import Channel
from gateway.formats.mp4.movie import MovieHead
from gateway.formats.mp4.movie_reader import FIRST_SHOWN
from gateway.formats.ts.reader import TsReader
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.disk import close_file
from gateway.live.stream import Stream
from gateway.media.errors import InvalidData
from gateway.outputs.clips.clip_captions import NO_CAPTIONS, captions_of
from gateway.outputs.clips.joiner import Joiner, JumpedTooFar
from gateway.outputs.clips.movie_file import CannotJoin
from gateway.outputs.clips.sources import JUMP_HEAD, ClipSources, FragmentUnits, MovieUnits, SourcePiece, UnitReader
from gateway.outputs.storage.archive import Archive
from gateway.ports import media_keys
from gateway.ports.errors import AtCapacity, CannotCut, NoSuchObject, NothingRecorded, OutputError, TooManyRequests
from gateway.ports.events import Event, Events, EventType
from gateway.ports.stores import ObjectStore
from gateway.settings.models import ClipsSettings

log = structlog.get_logger(__name__)

_SCRATCH: Final = "clips"
_PER_CHANNEL: Final = 2  # clips of one channel at a time, as many exports, and as many downloads
_CONCURRENT: Final = 4  # clips in this process, as many exports and downloads: each reads the disk as fast as it can
_COPY_BYTES: Final = 8 << 20  # bytes that the kernel copies in one call
_CHECK_BYTES: Final = 64 << 20  # bytes after which the free space is checked again
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_MAX_CHANNELS: Final = 10_000


@dataclass(frozen=True, slots=True)
class StoredClip:
    """A clip in the store. start: seconds since 1970."""

    key: str
    start: float
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Movie:
    """A joined movie: its head, then its media in a file without a name.

    Closing the file deletes it. start: seconds since 1970.
    """

    head: MovieHead
    media: BinaryIO
    start: float

    @property
    def size(self) -> int:
        return len(self.head.data) + self.head.media


class ClipService:
    """Joins the stored and the newest media of a time range, without encoding.

    Media are read, joined and written in a thread, 256 kB at a time, so that live streams are not delayed. They are
    collected in a file without a name on the disk of the recordings. A clip is then written to a second file after its
    head, and this file moves to the store. Memory: about 25 bytes for each frame.
    longest_clip, longest_export: seconds; callers check them.
    Limits: `_CONCURRENT` clips in this process, as many exports and as many downloads, two of each for one channel,
    and `ClipQuota`.
    """

    def __init__(
        self, objects: ObjectStore, archive: Archive, sources: ClipSources, events: Events, settings: ClipsSettings
    ) -> None:
        self._objects = objects
        self._archive = archive
        self._sources = sources
        self._events = events
        self._running = {kind: Counter[str]() for kind in ("clip", "export", "download", "trim")}
        self._quota = ClipQuota(settings.per_minute, settings.seconds_per_hour)
        self.longest_clip = settings.seconds
        self.longest_export = settings.export_seconds

    async def find_newest_range(self, channel: str, seconds: float, stream: Stream | None) -> tuple[float, float]:
        """Returns the time range of the newest `seconds`, in seconds since 1970. Raises NothingRecorded."""
        with ExitStack() as files:
            await self._sources.flush(stream)
            end = await self._sources.find_newest(channel, stream, files)
        if end is None:
            raise NothingRecorded("nothing of this channel is recorded")
        return end - seconds, end

    async def has_media(self, channel: str, start: float, end: float, stream: Stream | None) -> bool:
        """Returns whether pieces of this time are stored. start, end: seconds since 1970."""
        with ExitStack() as files:
            await self._sources.flush(stream)
            return bool(await self._sources.find(channel, start, end, stream, files))

    async def make_clip(self, channel: Channel, start: float, end: float, stream: Stream | None) -> StoredClip:
        """Stores a clip. start, end: seconds since 1970. stream: the channel's live stream on this node.

        Raises NothingRecorded, CannotCut, AtCapacity, TooManyRequests, StoreUnavailable.
        """
        began = time.monotonic()
        with self._reserve("clip", channel.id), self._count(channel.id, end - start, began), _disk_errors():
            async with self._joined(channel, start, end, stream) as movie:
                file = self._archive.scratch(_SCRATCH) / f".{secrets.token_hex(8)}.mp4"  # hidden until it is stored
                try:  # a cancelled call of a thread has also written the file
                    await self._sources.threads.run(partial(self._write_file, movie, file))
                    seconds = movie.head.seconds
                    start_ms = round(movie.start * 1000)
                    key = media_keys.clip_key(channel.id, start_ms, start_ms + round(seconds * 1000))
                    await self._objects.put(key, file)
                finally:
                    file.unlink(missing_ok=True)
        clip = StoredClip(key, movie.start, round(seconds, 3), movie.size)
        log.info("clip made", channel=channel.id, object=key, seconds=clip.seconds, bytes=clip.bytes,
                 took=round(time.monotonic() - began, 3))  # fmt: skip
        data = {"kind": "clip", "key": key, "start": clip.start, "seconds": clip.seconds, "bytes": clip.bytes}
        self._events.emit(Event(EventType.RECORDING_READY, time.time(), channel.id, data))
        return clip

    @asynccontextmanager
    async def export(
        self,
        channel: Channel,
        start: float,
        end: float,
        stream: Stream | None,
        is_wanted: Callable[[], bool],
        kind: str = "export",
    ) -> AsyncIterator[Movie]:
        """Joins a time range to a movie, whose file is deleted at the end. Raises like `make_clip`.

        is_wanted: whether somebody still waits for the movie. If not, raises ConnectionAbortedError.
        kind: `download` of viewers, who take no place of an operator.
        """
        with self._reserve(kind, channel.id), _disk_errors():
            async with self._joined(channel, start, end, stream, is_wanted) as movie:
                log.info(f"{kind} made", channel=channel.id, seconds=round(movie.head.seconds, 3), bytes=movie.size)
                yield movie

    async def save(self, channel: Channel, start: float, end: float, file: Path) -> None:
        """Writes a time range to a new file. Raises like `make_clip`."""
        await self._sources.threads.run(partial(file.unlink, missing_ok=True))  # of an earlier try
        async with self.export(channel, start, end, None, lambda: True, "trim") as movie:
            await self._sources.threads.run(partial(self._write_file, movie, file))

    async def read(self, movie: Movie) -> AsyncIterator[bytes]:
        """Yields the bytes of a movie. Raises OSError."""
        yield movie.head.data
        size = 0
        async for data in self._sources.threads.read(movie.media, 0, movie.head.media):
            size += len(data)
            yield data
        if size < movie.head.media:
            raise OSError(errno.EIO, "the file of an export became shorter")

    # ---- details ----

    @contextmanager
    def _reserve(self, kind: str, channel: str) -> Iterator[None]:
        running = self._running[kind]
        if running[channel] >= _PER_CHANNEL or running.total() >= _CONCURRENT:
            raise AtCapacity(f"too many {kind}s are made at this time: try again in some seconds")
        running[channel] += 1
        try:
            yield
        finally:
            running[channel] -= 1
            if not running[channel]:
                del running[channel]

    @contextmanager
    def _count(self, channel: str, seconds: float, now: float) -> Iterator[None]:
        """Counts a clip in the quota. A clip that fails is not counted. now: monotonic time."""
        entry = self._quota.take(channel, seconds, now)
        try:
            yield
        except BaseException:
            self._quota.give_back(channel, entry)
            raise

    @asynccontextmanager
    async def _joined(
        self,
        channel: Channel,
        start: float,
        end: float,
        stream: Stream | None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[Movie]:
        with ExitStack() as files:
            media = await self._sources.threads.run(self._temporary, close_file)
            files.callback(media.close)
            joiner = Joiner(media, start, end)
            try:
                await self._sources.flush(stream)
                pieces = await self._sources.find(channel.id, start, end, stream, files)
                for n, piece in enumerate(pieces):
                    async with aclosing(self._add(joiner, piece, pieces[n - 1] if n else None, (start, end))) as steps:
                        async for _ in steps:
                            if not is_wanted():
                                raise ConnectionAbortedError("the client disconnected")
                    if joiner.done:
                        break
                captions = NO_CAPTIONS
                if joiner.started is not None:
                    captions = await captions_of(self._objects, channel, stream, pieces, joiner.started)
                head = await self._sources.threads.run(partial(joiner.finish, captions.cues, captions.language))
            except CannotJoin as error:
                raise CannotCut(str(error)) from None
            if head is None or joiner.started is None:
                raise NothingRecorded("nothing of this channel is recorded in this time")
            yield Movie(head, media, joiner.started)

    async def _add(
        self, joiner: Joiner, piece: SourcePiece, previous: SourcePiece | None, wanted: tuple[float, float]
    ) -> AsyncGenerator[None, None]:
        """Adds one piece, and yields after each chunk. A piece that is deleted meanwhile or damaged is a gap."""
        continues = previous is not None and not piece.piece.discontinuity and previous.end - piece.start > -0.5
        near = joiner.last_dts if continues else None
        try:
            jump = 0 if joiner.began else await self._sources.find_position_before(piece, wanted[0])
            for position in (jump, 0) if jump else (0,):
                try:
                    reader, first, last = await self._sources.open_reader(piece, near, *wanted)
                    first_shown = FIRST_SHOWN if isinstance(reader, MovieUnits) else None
                    joiner.begin_piece(piece.start, continues, first_shown)
                    if position:
                        await self._jump(joiner, reader, piece)
                        first = position
                    async with aclosing(self._sources.read(piece, first, last)) as chunks:
                        async for chunk in chunks:
                            await self._sources.threads.run(partial(self._receive, joiner, reader, chunk))
                            if joiner.done:
                                return
                            yield
                    await self._sources.threads.run(partial(_finish_piece, joiner, reader))
                    return
                except JumpedTooFar:
                    continue  # the segment is read from its start
        except NoSuchObject:
            joiner.begin_piece(piece.start, False)
        except InvalidData as error:
            joiner.begin_piece(piece.start, False)
            log.warning("a damaged recording is left out of a clip", object=piece.piece.key, reason=str(error))

    async def _jump(self, joiner: Joiner, reader: UnitReader, piece: SourcePiece) -> None:
        """Reads the tables and the first picture of a piece, to learn its times. The caller continues later in it."""
        async with aclosing(self._sources.read(piece, 0, JUMP_HEAD)) as chunks:
            async for chunk in chunks:
                await self._sources.threads.run(partial(self._receive, joiner, reader, chunk))
                if joiner.anchored:
                    break
            else:
                raise JumpedTooFar  # a very large first picture
        assert isinstance(reader, TsReader | FragmentUnits)  # other pieces have no position to jump to
        reader.jump()
        joiner.jump()

    def _receive(self, joiner: Joiner, reader: UnitReader, chunk: bytes) -> None:
        joiner.add(reader.receive(chunk), reader.has_video)
        if joiner.check_growth(_CHECK_BYTES):
            self._archive.check_free_space()

    def _temporary(self) -> BinaryIO:
        """Opens a file without a name on the disk of the recordings. Raises OutputError, OSError."""
        self._archive.check_free_space()
        folder = self._archive.scratch(_SCRATCH)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".")
        os.unlink(name)
        return os.fdopen(descriptor, "w+b", buffering=1 << 20)

    def _write_file(self, movie: Movie, path: Path) -> None:
        """Writes the whole movie to a new file, also a part of it after an error. Raises OutputError, OSError."""
        self._archive.check_free_space()
        with path.open("xb") as target:
            os.fchmod(target.fileno(), 0o640)
            target.write(movie.head.data)
            target.flush()
            _copy(movie.media.fileno(), target.fileno(), movie.head.media)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Reports errors of this node's disk as AtCapacity, without their paths; the log has them."""
    try:
        yield
    except ConnectionError:  # of the client
        raise
    except (OutputError, OSError) as error:
        log.warning("a clip or export cannot be written", reason=str(error))
        raise AtCapacity("the gateway's disk cannot hold the file now") from None


def _finish_piece(joiner: Joiner, reader: UnitReader) -> None:
    joiner.add(reader.finish(), reader.has_video)


def _copy(source: int, target: int, size: int) -> None:
    """Copies the first `size` bytes of a file to the end of another; the kernel does it."""
    at = 0
    while at < size:
        copied = os.sendfile(target, source, at, min(_COPY_BYTES, size - at))
        if not copied:
            raise OSError(errno.EIO, "the file became shorter")
        at += copied


class ClipQuota:
    """Counts the clips of each channel in the last hour, for the last 10,000 channels.

    per_minute: clips of a channel in a minute. seconds_per_hour: length of all its clips in an hour. One clip is always
    allowed. 0: no limit.
    """

    def __init__(self, per_minute: int, seconds_per_hour: float) -> None:
        self._per_minute = per_minute
        self._seconds = seconds_per_hour
        # (monotonic time, length in seconds) of each clip, by channel.
        self._clips: BoundedDict[str, deque[tuple[float, float]]] = BoundedDict(_MAX_CHANNELS)

    def take(self, channel: str, seconds: float, now: float) -> tuple[float, float]:
        """Counts a clip of `seconds`, and returns the entry for `give_back`. Raises TooManyRequests. now: monotonic."""
        clips = self._clips[channel] = self._clips.get(channel) or deque()
        while clips and now - clips[0][0] >= _HOUR:
            clips.popleft()
        recent = [at for at, _ in clips if now - at < _MINUTE]
        if self._per_minute and len(recent) >= self._per_minute:
            raise TooManyRequests(
                f"at most {self._per_minute} clips of a channel are made in a minute (clips.per_minute)",
                math.ceil(recent[-self._per_minute] + _MINUTE - now),
            )
        used = sum(length for _, length in clips)
        if self._seconds and used and used + seconds > self._seconds:
            raise TooManyRequests(
                f"at most {self._seconds:g} seconds of clips of a channel are made in an hour (clips.seconds_per_hour)",
                math.ceil(clips[0][0] + _HOUR - now),
            )
        clips.append((now, seconds))
        return clips[-1]

    def give_back(self, channel: str, entry: tuple[float, float]) -> None:
        """Removes the entry of a clip that was not made."""
        if entry in (clips := self._clips.get(channel, deque())):
            clips.remove(entry)
