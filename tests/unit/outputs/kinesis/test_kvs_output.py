"""KvsOutput: it starts again after a failure, and follows the channel's Kinesis stream while it waits for another."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from gateway.lib.backoff import Backoff
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live import output as outputs_module
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog
from gateway.outputs.kinesis.kvs_delivery import KvsDelivery
from gateway.outputs.kinesis.kvs_output import KvsOutput
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.ports.errors import NameInUse, OutputError
from gateway.ports.stores import KvsEndpoints
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders, kvs
from tests.support.builders import VIDEO
from tests.support.waiting import until


class Delivery:
    """Stores each fragment as soon as it begins."""

    def __init__(self, stream: str, backlog: FragmentBacklog, stored: list[str]) -> None:
        self.arn, self._backlog, self._stored = stream, backlog, stored

    async def run(self) -> None:
        while not self._backlog.closed or len(self._backlog):
            fragment = self._backlog.first
            if fragment is None:
                await self._backlog.wait_for_change()
                continue
            self._stored.append(self.arn)
            self._backlog.drop(fragment)

    def report(self) -> dict[str, Any]:
        return {"stream": self.arn}


class Streams(KvsStreams):
    """Kinesis streams in memory. stored: the stream of each fragment. made: those of the deliveries.

    errors: raised by the next deliveries.
    """

    def __init__(self) -> None:
        super().__init__(cast(KvsEndpoints, None), kvs.settings())
        self.stored: list[str] = []
        self.made: list[str] = []
        self.errors: list[Exception] = []

    def make_delivery(self, stream: str, backlog: FragmentBacklog) -> KvsDelivery:
        if self.errors:
            raise self.errors.pop()
        self.made.append(stream)
        return cast(KvsDelivery, Delivery(stream, backlog, self.stored))


def hub_for(streams: Streams) -> Hub:
    workers = WorkerPool(kvs.WORKERS, Counter(WORKER_RESTARTS))
    return builders.hub([OutputSpec("kvs", lambda stream: KvsOutput(stream, streams, workers), lambda stream: True)])


def publish(on: Hub, name: str, **fields: Any) -> StreamPublisher:
    publisher = builders.publish(on, name, **fields)
    publisher.set_tracks(VIDEO, None, {})
    return publisher


def send_gop(publisher: StreamPublisher) -> None:
    for dts in range(0, 2000, 100):
        payload = b"\0\0\0\x05" + (b"\x41" if dts else b"\x65") + b"data"
        publisher.push(AccessUnit(VIDEO, dts, 0, not dts, 1.7e9 + dts / 1000, payload), time.monotonic())


def report(publisher: StreamPublisher) -> dict[str, Any]:
    assert publisher.stream.outputs is not None
    return publisher.stream.outputs.status()[0]


async def test_an_output_that_is_started_again_sends_the_media_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "Backoff", lambda: Backoff(0.001, 0.001))
    streams = Streams()
    streams.errors = [OutputError("all media workers are busy")]
    hub = hub_for(streams)
    push = publish(hub, "c1")
    await until(lambda: streams.made, "it is started again")
    send_gop(push)
    await until(lambda: streams.stored == ["lobby"], "a fragment is stored")
    hub.drain()
    await hub.drained()


def change(publisher: StreamPublisher, **fields: Any) -> None:
    publisher.stream.change_channel(builders.channel(publisher.stream.name, **fields))


async def test_an_output_that_waits_follows_the_channel_to_another_stream() -> None:
    streams = Streams()
    hub = hub_for(streams)
    first = publish(hub, "c1", kvsStream="hall")
    await until(lambda: streams.made == ["hall"], "the first one sends")
    second = publish(hub, "c2", kvsStream="hall")
    await until(lambda: report(second)["error"], "the second one waits")
    change(second, kvsStream="attic")
    await until(lambda: streams.made == ["hall", "attic"], "the second one sends")
    assert report(second)["error"] is None
    with pytest.raises(NameInUse, match="attic is in use by channel c2"), streams.claim("attic", "another"):
        pass
    send_gop(first)
    send_gop(second)
    await until(lambda: sorted(streams.stored) == ["attic", "hall"], "both have stored a fragment")
    hub.drain()
    await hub.drained()


async def test_an_output_that_waits_for_a_stream_and_loses_its_own_fails() -> None:
    streams = Streams()
    streams.default_stream = ""
    hub = hub_for(streams)
    publish(hub, "c1", kvsStream="hall")
    await until(lambda: streams.made == ["hall"], "the first one sends")
    second = publish(hub, "c2", kvsStream="hall")
    await until(lambda: report(second)["error"], "the second one waits")
    change(second)
    await until(lambda: report(second)["state"] == "failed", "it has no stream")
    assert "no Kinesis stream" in report(second)["error"]
    hub.drain()
    await hub.drained()
