"""The output `kvs`: sends a live stream to a Kinesis video stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.live.subscription import End, Subscription
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.fragmenter import Fragmenter
from gateway.outputs.kinesis.kvs_delivery import KvsDelivery
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.outputs.kinesis.reencoding import reencoded
from gateway.ports.errors import OutputUnsupported
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 15.0  # for fragments that are not stored yet when the stream has ended; outputs have 20


class KvsOutput:
    """Sends the original, without a watermark, to the channel's `kvsStream`, or else to `kvs.stream`.

    Reading and sending are separate: while Kinesis is unavailable, the backlog fills within its bound and is sent
    later.
    If the channel's `kvsTranscode` is set, a worker re-encodes the stream first.
    """

    def __init__(self, stream: Stream, streams: KvsStreams, workers: WorkerPool) -> None:
        self._stream = stream
        self._streams = streams
        self._workers = workers
        self._items = Subscription(stream.original)
        self._tracks: Tracks | None = None
        self._ended = False
        self._fragmenter: Fragmenter | None = None
        self._delivery: KvsDelivery | None = None
        self._worker_error: str | None = None
        self._waits_for: str | None = None
        self._changed: asyncio.Future[None] | None = None
        self._follow(stream.channel)

    # ---- live.output ----

    def begin(self, stream: Stream) -> None:
        """Subscribes at once: sound before the first picture is part of the stream."""
        stream.original.attach(self._items)

    async def run(self, stream: Stream) -> None:
        """Sends until the stream's end is stored; waits while another sender uses its Kinesis stream.

        Raises OutputError, OutputUnsupported.
        """
        try:
            while not self._ended:
                if not self._target:
                    raise OutputUnsupported("no Kinesis stream: set the channel's kvsStream, or kvs.stream for all")
                async with self._streams.turn(self._target, f"channel {stream.channel.id}", self._wait_told):
                    await self._send()
        finally:
            stream.original.detach(self._items)

    def channel_changed(self, channel: Channel) -> None:
        """Takes another Kinesis stream, or a change of transcoding: finishes what was read, then continues there."""
        before = self._target, self._transcode
        self._follow(channel)
        if before != (self._target, self._transcode) and self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def report(self) -> dict[str, Any]:
        """Returns data that is merged into the session's entry of this output."""
        if self._waits_for is not None:
            return {"stream": self._target, "error": self._waits_for}
        if self._delivery is None or self._fragmenter is None:
            return {"stream": self._target}
        said = self._delivery.report()
        said["dropped"] = self._items.dropped
        if self._fragmenter.left_out:
            said["leftOut"] = self._fragmenter.left_out
        if self._worker_error is not None:
            said.setdefault("error", self._worker_error)
        return said

    # ---- one Kinesis stream ----

    def _follow(self, channel: Channel) -> None:
        self._target = channel.text("kvsStream") or self._streams.default
        self._transcode = channel.flag("kvsTranscode")

    async def _send(self) -> None:
        """Sends until the stream ends or the channel's settings change, and what was read is stored."""
        backlog = self._streams.backlog()
        self._fragmenter = fragmenter = Fragmenter(backlog)
        self._delivery = delivery = self._streams.delivery(self._target, backlog)
        self._changed = changed = asyncio.get_running_loop().create_future()
        async with Tasks(f"kvs of {self._stream.name}") as tasks:
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(fragmenter, backlog), "reading")
            # The delivery ends by itself only when the backlog is closed, or by an internal error.
            await asyncio.wait({sending, reading, changed}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})
            await asyncio.wait({sending}, timeout=FINISH_SECONDS)
            if sending.done():
                sending.result()
            else:
                left = len(backlog)
                log.warning("kinesis did not store all", stream=self._stream.name, kvs=delivery.arn, fragments=left)
            if not reading.cancelled():
                reading.result()

    async def _read(self, fragmenter: Fragmenter, backlog: FragmentBacklog) -> None:
        try:
            async with contextlib.aclosing(self._units()) as units:
                async for item in units:
                    if isinstance(item, AccessUnit):
                        fragmenter.add(item)
                    else:
                        fragmenter.start(item)
        finally:
            fragmenter.finish()
            backlog.close()

    async def _units(self) -> AsyncGenerator[Tracks | AccessUnit, None]:
        """Yields what is to be sent, until the stream ends."""
        if self._transcode:
            async with contextlib.aclosing(
                reencoded(self._items, self._tracks, self._workers, self._stream.name, self._note)
            ) as units:
                async for unit in units:
                    yield unit
            self._ended = True
            return
        if self._tracks is not None:
            yield self._tracks
        async for item in self._items:
            if isinstance(item, End):
                self._ended = True
                return
            if isinstance(item, Tracks):
                self._tracks = item
            if not isinstance(item, Timed):
                yield item

    def _wait_told(self, reason: str | None) -> None:
        self._waits_for = reason

    def _note(self, error: str) -> None:
        self._worker_error = error
