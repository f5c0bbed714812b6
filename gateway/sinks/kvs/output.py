"""KvsOutput: a live stream into a Kinesis video stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Final

import structlog

from gateway.hub.channel import Channel
from gateway.hub.errors import OutputUnsupported
from gateway.hub.stream import Stream
from gateway.hub.subscription import End, Subscription
from gateway.lib.aio import Tasks
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.sinks.kvs.backlog import Backlog
from gateway.sinks.kvs.delivery import Delivery
from gateway.sinks.kvs.fragmenter import Fragmenter
from gateway.sinks.kvs.recoding import recoded
from gateway.sinks.kvs.streams import KvsStreams
from gateway.transcode.launch import Workers

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 15.0  # for what is not stored yet when the stream has ended; outputs have 20


class KvsOutput:
    """The output `kvs`: what was pushed, without a watermark, to the channel's `kvsStream` or else to `kvs.stream`.

    Reading and sending are apart: while Kinesis is away the backlog fills, within its bound, and is sent later. Where
    the channel's `kvsTranscode` is set a worker encodes the stream anew first.
    """

    def __init__(self, stream: Stream, streams: KvsStreams, workers: Workers) -> None:
        self._stream = stream
        self._streams = streams
        self._workers = workers
        self._items = Subscription(stream.original)
        self._tracks: Tracks | None = None
        self._ended = False
        self._fragmenter: Fragmenter | None = None
        self._delivery: Delivery | None = None
        self._worker_error: str | None = None
        self._waits_for: str | None = None
        self._changed: asyncio.Future[None] | None = None
        self._follow(stream.channel)

    # ---- hub.output ----

    def begin(self, stream: Stream) -> None:
        """At once: what sounds before the first picture is part of the stream."""
        stream.original.attach(self._items)

    async def run(self, stream: Stream) -> None:
        """Until the stream's end is stored; waits while another sends to its Kinesis stream.

        Raises OutputTrouble, OutputUnsupported."""
        try:
            while not self._ended:
                if not self._target:
                    raise OutputUnsupported("no Kinesis stream: set the channel's kvsStream, or kvs.stream for all")
                async with self._streams.turn(self._target, f"channel {stream.channel.id}", self._wait_told):
                    await self._send()
        finally:
            stream.original.detach(self._items)

    def channel_changed(self, channel: Channel) -> None:
        """Another Kinesis stream, or transcoding switched: what is under way is finished, then it goes on there."""
        before = self._target, self._transcode
        self._follow(channel)
        if before != (self._target, self._transcode) and self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def report(self) -> dict[str, Any]:
        """Merged into the session's entry of this output."""
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
        """Until the stream ends or the channel wants it otherwise, and what was read is stored."""
        backlog = self._streams.backlog()
        self._fragmenter = fragmenter = Fragmenter(backlog)
        self._delivery = delivery = self._streams.delivery(self._target, backlog)
        self._changed = changed = asyncio.get_running_loop().create_future()
        async with Tasks(f"kvs of {self._stream.name}") as tasks:
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(fragmenter, backlog), "reading")
            # The delivery ends by itself only when the backlog is closed, or by a fault of ours.
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

    async def _read(self, fragmenter: Fragmenter, backlog: Backlog) -> None:
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
        """What is to be sent, until the stream ends."""
        if self._transcode:
            async with contextlib.aclosing(
                recoded(self._items, self._tracks, self._workers, self._stream.name, self._note)
            ) as units:
                async for unit in units:
                    yield unit
            self._ended = True
            return
        if self._tracks is not None:
            yield self._tracks
        async for item in self._items:
            match item:
                case AccessUnit():
                    yield item
                case Tracks():
                    self._tracks = item
                    yield item
                case End():
                    self._ended = True
                    return
                case _:
                    pass

    def _wait_told(self, reason: str | None) -> None:
        self._waits_for = reason

    def _note(self, error: str) -> None:
        self._worker_error = error
