"""DemuxClient: the gateway's side of a demux worker. It reads the bytes of sources, and returns their units."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias

import structlog

from gateway.channels.channel import Channel
from gateway.inputs.paced_media import MediaQueue
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.ports.errors import GatewayError, OutputError, OutputUnsupported
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.demux_protocol import CREDIT, DemuxMessage, DemuxRequest, decode_read, encode_data, encode_more
from gateway.workers.worker_pool import WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of the media that follow cannot be used: the kinds of tracks by the names of their codecs."""

    tracks: Mapping[str, Kind]


Media: TypeAlias = Tracks | AccessUnit  # of a source
Item: TypeAlias = LeftOut | Media  # of an input
# read(offset, size) returns at most `size` bytes of a source; b"" at the end. Raises GatewayError.
# A reader of a source without a size ignores `offset`, because the worker then reads in order.
ByteReader: TypeAlias = Callable[[int, int], Awaitable[bytes]]

_MODULE: Final = "gateway.workers.programs.demux.demux_worker"
_HANG_SECONDS: Final = 10.0  # a worker that reads nothing for this long counts as hung
_MAX_READ: Final = 4_000_000
_MAX_SOURCES: Final = 1 << 16


class DemuxedSource:
    """The units of one source, in the order of the container.

    At most CREDIT bytes of units and the largest unit wait here: the worker then stops.
    """

    def __init__(self, client: DemuxClient, number: int, reader: ByteReader) -> None:
        self.problem = ""  # what of the media is not carried; it is known before the first unit
        self.left_out: dict[str, Kind] = {}
        self._client = client
        self._number = number
        self._reader = reader
        self._queue: MediaQueue[Media] = MediaQueue()
        self._tracks: Tracks | None = None
        self._taken = 0  # bytes of units that were taken since the worker was last allowed to send more
        self._error: GatewayError | None = None  # of the reader
        self._reading = False  # a read for the worker is running

    async def next(self) -> Media | None:
        """Returns the next tracks or unit; None at the end.

        Raises OutputUnsupported if the media cannot be used, and the errors of the reader.
        """
        item = await self._queue.get()
        if isinstance(item, AccessUnit):
            self._taken += len(item.payload)
            if self._taken >= CREDIT // 4:
                taken, self._taken = self._taken, 0
                await self._client.send(DemuxMessage.MORE, encode_more(self._number, taken))
        return item

    async def close(self) -> None:
        """Ends the source in the worker."""
        await self._client.close(self._number)

    # ---- for DemuxClient ----

    def on_tracks(self, body: bytes) -> None:
        self._tracks = wire.decode_tracks(body)
        self._queue.add(self._tracks)

    def on_unit(self, body: bytes) -> None:
        self._queue.add(wire.decode_unit(body, self._tracks))

    def on_end(self) -> None:
        self._queue.end(self._error)

    def on_failed(self, error: GatewayError) -> None:
        """Notes a failure of the worker.

        error: of the worker. An earlier error of the reader caused this failure, so that one is shown instead.
        """
        self._queue.end(self._error or error)

    async def answer(self, offset: int, size: int) -> None:
        """Reads bytes for the worker."""
        if self._reading or size > _MAX_READ:
            raise InvalidData("an unexpected request for bytes")
        self._reading = True
        try:
            data = await self._reader(offset, size)
        except GatewayError as error:
            self._error = error
            data = b""
        self._reading = False
        await self._client.send(DemuxMessage.DATA, encode_data(self._number, data))


class DemuxClient:
    """One demux worker. `open` adds a source; several can be open at the same time."""

    def __init__(self, worker: WorkerProcess, tasks: Tasks, stream: str, for_fragments: bool) -> None:
        self._worker = worker
        self._for_fragments = for_fragments
        self._tasks = tasks
        self._stream = stream
        self._sources: dict[int, DemuxedSource] = {}
        self._sending = asyncio.Lock()
        self._last_number = 0  # of the source that was opened last
        self._error: OutputError | None = None

    @staticmethod
    @asynccontextmanager
    async def started(workers: WorkerPool, channel: Channel) -> AsyncIterator[DemuxClient]:
        """Starts the worker, and kills it at the end of the block. Raises OutputError."""
        async with (
            workers.start(_MODULE, "demux", stream=channel.id, hang_seconds=_HANG_SECONDS) as worker,
            Tasks("demux", lambda name, error: worker.kill(f"{name}: {error}")) as tasks,
        ):
            client = DemuxClient(worker, tasks, channel.id, channel.flag("isCMAF"))
            tasks.start(client._read(), "read")
            yield client

    @property
    def ended(self) -> bool:
        """Whether the worker has died."""
        return self._error is not None

    async def open(
        self, reader: ByteReader, *, size: int = 0, format: str = "", probe_seconds: float = 5.0, start: float = 0.0
    ) -> DemuxedSource:
        """Opens a source. DemuxRequest describes the arguments. Raises OutputError."""
        number = self._last_number = (self._last_number + 1) % _MAX_SOURCES
        source = DemuxedSource(self, number, reader)
        if self._error is not None:
            raise self._error
        self._sources[number] = source
        request = DemuxRequest(number, size, format, probe_seconds, start, self._for_fragments)
        await self.send(DemuxMessage.OPEN, wire.write_json(asdict(request)))
        return source

    async def close(self, number: int) -> None:
        """Ends a source. Its remaining frames are ignored."""
        if self._sources.pop(number, None) is not None and self._error is None:
            await self.send(DemuxMessage.CLOSE, encode_data(number, b""))

    async def send(self, kind: int, body: bytes) -> None:
        """Sends a frame. Raises WorkerDied."""
        async with self._sending:
            await self._worker.send(kind, body)

    async def _read(self) -> None:
        worker = self._worker
        while (received := await worker.receive()) is not None:
            try:
                self._on_frame(*received)
            except (InvalidData, KeyError, TypeError, ValueError) as error:
                worker.kill(f"it sent an invalid frame: {error}")
        self._error = await worker.died()
        for source in self._sources.values():
            source.on_failed(self._error)

    def _on_frame(self, kind: int, body: bytes) -> None:
        if kind in (DemuxMessage.FAILED, DemuxMessage.LEFT_OUT):
            fields = wire.read_json(body)
            source = self._sources.get(int(fields["source"]))
            if kind == DemuxMessage.LEFT_OUT:
                what = str(fields["what"])[:200]
                log.warning("media are not published", stream=self._stream, what=what)
                if source is not None:
                    source.problem = what
                    if name := str(fields["name"]):
                        source.left_out[name] = Kind.AUDIO
            elif source is not None:
                source.on_failed(OutputUnsupported(str(fields["reason"])[:200]))
            return
        source = self._sources.get(wire.destination(body))
        if source is None:
            return  # it was closed
        if kind == StreamMessage.UNIT:
            source.on_unit(body)
        elif kind == StreamMessage.TRACKS:
            source.on_tracks(body)
        elif kind == StreamMessage.END:
            source.on_end()
        elif kind == DemuxMessage.READ:
            _, offset, size = decode_read(body)
            self._tasks.start(source.answer(offset, size), "read bytes")
        else:
            raise InvalidData(f"a frame of kind {kind}")


def stream_reader(chunks: AsyncIterator[bytes]) -> ByteReader:
    """Returns the reader of a stream. It ignores offset and size: each call returns the next chunk."""

    async def read(offset: int, size: int) -> bytes:
        return await anext(chunks, b"")

    return read
