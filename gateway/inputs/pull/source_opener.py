"""SourceOpener: opens media that arrive as bytes, in this process or in a demux worker."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from gateway.channels.channel import Channel
from gateway.inputs.demux_client import DemuxClient, stream_reader
from gateway.inputs.pull.program_source import ProgramSource, chained
from gateway.inputs.splicer import ItemSource
from gateway.workers.worker_pool import WorkerPool


class SourceOpener(AbstractAsyncContextManager["SourceOpener"]):
    """Opens transport streams in this process. The worker for everything else starts when it is needed.

    Use as `async with`, in one task. channel: whose input it is.
    """

    def __init__(self, workers: WorkerPool, channel: Channel) -> None:
        self._workers = workers
        self._channel = channel
        self._stack = AsyncExitStack()
        self._demuxer: DemuxClient | None = None

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def open(self, chunks: AsyncGenerator[bytes], format: str, probe_seconds: float) -> ItemSource:
        """Opens a source. format, probe_seconds: see DemuxRequest. Raises GatewayError."""
        source = ProgramSource(chunks, self._channel)
        read = await source.probe(probe_seconds)
        if read is None:
            return source
        chunks = chained([*read, source.unread], chunks)
        if self._demuxer is None:
            self._demuxer = await self._stack.enter_async_context(DemuxClient.started(self._workers, self._channel))
        return await self._demuxer.open(stream_reader(chunks), format=format, probe_seconds=probe_seconds)
