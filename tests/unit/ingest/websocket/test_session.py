"""A push of a recording, whose channel gets inputs while it is live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission, PushRequest
from gateway.ingest.push import Push
from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.ingest.websocket.push_messages import PushMessages
from gateway.ingest.websocket.session import PushSession
from gateway.lib.refusals import Refusals
from gateway.live.publisher import PushOrigin
from gateway.media.track import Tracks
from gateway.ports.events import Events
from gateway.protocols import wire
from gateway.protocols.push import Stats
from gateway.protocols.wire import StreamMessage
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.builders import FAR, VIDEO, picture

SECRETS = SigningSecrets("a-secret")
KEY = SECRETS.sign("c1", FAR)
ORIGIN = PushOrigin("inputs", "")


class Store:
    """A `ChannelReader` with one channel."""

    async def get(self, id: str) -> Channel:
        return builders.channel(id, key=KEY)


class Worker:
    """Reads one picture of a recording. `made` is set when it is published. Takes the place of its pool."""

    def __init__(self) -> None:
        self.made = asyncio.Event()

    @asynccontextmanager
    async def start(self, *names: str, **options: object) -> AsyncIterator[Worker]:
        yield self

    async def send_json(self, *message: object) -> None: ...

    async def send_end(self) -> None: ...

    async def exchange(
        self, sending: Coroutine[Any, Any, None], handlers: Mapping[int, Callable[[bytes], object]], seconds: float
    ) -> bool:
        handlers[StreamMessage.TRACKS](wire.encode_tracks(Tracks(VIDEO, None)))
        handlers[StreamMessage.UNIT](wire.encode_unit(picture(0, True)))
        self.made.set()
        await sending
        return True


class Client:
    """A connected page that sends nothing and reads no texts."""

    subprotocol = None
    transport = SimpleNamespace(get_write_buffer_size=lambda: 1 << 30)

    def admit(self, largest: int) -> None: ...

    def end_messages(self) -> None: ...

    async def recv(self) -> bytes:
        nothing: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await nothing

    async def close(self, code: int, reason: str) -> None: ...


class Messages(PushMessages):
    """Remembers the statistics that would be sent."""

    def __init__(self) -> None:
        self.sent: list[Stats] = []

    def stats(self, stats: Stats, problem: str) -> list[str]:
        self.sent.append(stats)
        return []


async def test_a_returned_push_goes_on_when_its_channel_gets_inputs() -> None:
    """Its stream had bytes before it. The one that it moves to has none."""
    hub, hidden, worker, messages = builders.hub(), builders.hub(), Worker(), Messages()
    earlier = builders.publish(hub)
    earlier.set_tracks(VIDEO, None, {})
    earlier.push(picture(0, True, size=1_000_000), 0.0)
    earlier.close()
    settings = load(environ={})
    workers = cast(WorkerPool, worker)
    services = SimpleNamespace(
        shared=SimpleNamespace(settings=settings),
        container=lambda publisher: ContainerIntake(publisher, workers, settings.transcode),
    )
    admission = Admission(Store(), SECRETS, Events(), publishers_per_address=0, refusals=Refusals(0))
    push = Push(admission, hub.acquire_publisher, PushRequest("c1", KEY, "192.0.2.1", "ws"))
    session = PushSession(cast(Any, services), cast(Any, Client()), push, messages)
    running = asyncio.create_task(session.run())
    await worker.made.wait()
    publisher = push.publisher
    assert publisher is not None
    program = hub.replace_publisher(publisher, ORIGIN, lambda reason: None)
    hidden.adopt(builders.channel("c1"), "c1/main", publisher)
    session.tick(push.began + settings.limits.first_media + 1)
    assert [stats.frames for stats in messages.sent] == [1], "the push goes on"
    session.shutdown()
    await running
    program.close()
    for one in (hub, hidden):
        one.drain()
        await one.drained()
