"""The output `kvs`: sends a live stream to a Kinesis video stream, re-encoded if the channel asks for it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.tasks import Tasks, awaited
from gateway.live.stream import Stream
from gateway.live.subscription import Subscription
from gateway.media.track import AccessUnit, Tracks
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.fragmenter import Fragmenter
from gateway.outputs.kinesis.kvs_delivery import KvsDelivery
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.errors import OutputUnsupported
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.worker_pool import Handler, WorkerDied, WorkerPool

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 15.0  # for storing the last fragments after the stream's end; an output gets 20 s to end
_MODULE: Final = "gateway.workers.programs.keyframe_reencoder"
_MIN_UPTIME_SECONDS: Final = 5.0  # a worker that ran at least this long is replaced at once
_EPOCHS: Final = 1000  # reserved for one worker, so that the next worker's epochs differ from them


class KvsOutput:
    """Sends the stream without a watermark to the channel's `kvsStream`, or else to `kvs.stream`.

    Reading and sending are separate tasks. While Kinesis is unavailable, the backlog grows up to its limit.
    If the channel's `kvsTranscode` is set, a worker re-encodes the stream first.
    """

    def __init__(self, stream: Stream, streams: KvsStreams, workers: WorkerPool) -> None:
        self._stream = stream
        self._streams = streams
        self._workers = workers
        self._items = Subscription(stream.original)
        self._tracks: Tracks | None = None
        self._subscribed = self._ended = False
        self._fragmenter: Fragmenter | None = None
        self._delivery: KvsDelivery | None = None
        self._worker_error: str | None = None
        self._wait_reason: str | None = None
        self._changed: asyncio.Future[None] | None = None
        self._read_channel(stream.channel)

    # ---- live.output ----

    def begin(self, stream: Stream) -> None:
        """Subscribes at once, because sound before the first picture is part of the stream."""
        self._subscribed = True
        stream.original.attach(self._items)

    async def run(self, stream: Stream) -> None:
        """Sends until the stream has ended and is stored. Waits while another sender uses the Kinesis stream.

        Raises OutputError, OutputUnsupported.
        """
        if not self._subscribed:
            self.begin(stream)
        try:
            while not self._ended:
                owner = f"channel {stream.channel.id}"
                async with self._streams.wait_and_claim(self._wanted, owner, self._on_waiting) as target:
                    await self._send(target)
        finally:
            stream.original.detach(self._items)

    def channel_changed(self, channel: Channel) -> None:
        """Applies another Kinesis stream or a change of transcoding, after the media that was read is sent."""
        previous = self._target, self._transcode
        self._read_channel(channel)
        if previous == (self._target, self._transcode):
            return
        self._streams.wake()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def report(self) -> dict[str, Any]:
        """Returns the output's entry in the session's status."""
        if self._wait_reason is not None:
            return {"stream": self._target, "error": self._wait_reason}
        if self._delivery is None or self._fragmenter is None:
            return {"stream": self._target}
        status = self._delivery.report()
        status["dropped"] = self._items.dropped
        if self._fragmenter.left_out:
            status["leftOut"] = self._fragmenter.left_out
        if self._worker_error is not None:
            status.setdefault("error", self._worker_error)
        return status

    # ---- one Kinesis stream ----

    def _read_channel(self, channel: Channel) -> None:
        self._target = channel.text("kvsStream") or self._streams.default_stream
        self._transcode = channel.flag("kvsTranscode")

    def _wanted(self) -> str:
        """Returns the Kinesis stream of the channel. Raises OutputUnsupported."""
        if not self._target:
            raise OutputUnsupported("no Kinesis stream: set the channel's kvsStream, or kvs.stream for all")
        return self._target

    async def _send(self, target: str) -> None:
        """Sends until the stream ends or the channel's settings change, and the media that was read is stored.

        target: the claimed Kinesis stream. The channel may name another one before the last media is stored.
        """
        backlog = self._streams.make_backlog()
        self._fragmenter = fragmenter = Fragmenter(backlog)
        self._delivery = delivery = self._streams.make_delivery(target, backlog)
        self._changed = changed = asyncio.get_running_loop().create_future()
        async with Tasks(f"kvs of {self._stream.name}", awaited) as tasks:
            sending = tasks.start(delivery.run(), "delivery")
            reading = tasks.start(self._read(fragmenter, backlog), "reading")
            # The delivery ends only after the backlog is closed, or with an internal error.
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
            if self._transcode:
                await self._reencode(fragmenter)
                return
            async for item in self._originals():
                if isinstance(item, AccessUnit):
                    fragmenter.add(item)
                else:
                    fragmenter.start(item)
        finally:
            fragmenter.finish()
            backlog.close()

    async def _originals(self) -> AsyncGenerator[Tracks | AccessUnit, None]:
        """Yields the tracks, then the items that nobody has read yet, until the stream ends."""
        if self._tracks is not None:
            yield self._tracks
        async for item in self._items:
            if isinstance(item, Tracks):
                self._tracks = item  # the next reader gets them first
            if isinstance(item, Tracks | AccessUnit):
                yield item
        self._ended = True

    def _on_waiting(self, reason: str | None) -> None:
        self._wait_reason = reason

    # ---- re-encoding ----

    async def _reencode(self, fragmenter: Fragmenter) -> None:
        """Passes on the stream with a key frame every two seconds and AAC sound, until its end.

        A worker process re-encodes it. If the worker is too slow, the subscription drops units.
        A dead worker is replaced at the next key frame.
        Raises OutputError if no worker can be started or workers die repeatedly.
        """
        epoch = 0
        while not self._ended:
            began = time.monotonic()
            try:
                await self._reencode_with_worker(fragmenter, epoch)
            except WorkerDied as error:
                if time.monotonic() - began < _MIN_UPTIME_SECONDS and not self._ended:
                    raise
                self._worker_error = str(error)
                name, reason = self._stream.name, self._worker_error
                log.warning("a kinesis stream's worker died, another follows", stream=name, reason=reason)
            epoch += _EPOCHS

    async def _reencode_with_worker(self, fragmenter: Fragmenter, epoch: int) -> None:
        """Runs one worker. epoch: added to those of the worker."""
        tracks: Tracks | None = None

        async def send_items() -> None:
            async for item in self._originals():
                await worker.send_item(item)
            await worker.send_end()

        def on_tracks(body: bytes) -> None:
            nonlocal tracks
            tracks = wire.decode_tracks(body)
            fragmenter.start(replace(tracks, epoch=epoch + tracks.epoch))

        handlers: dict[int, Handler] = {
            StreamMessage.TRACKS: on_tracks,
            StreamMessage.UNIT: lambda body: fragmenter.add(wire.decode_unit(body, tracks)),
            StreamMessage.END: lambda body: True,
        }
        async with self._workers.start(_MODULE, "kvs", stream=self._stream.name) as worker:
            await worker.exchange(send_items(), handlers, FINISH_SECONDS)
