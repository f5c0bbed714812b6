"""The WebSocket listener with a hub, an in-memory store, real workers, and a recording viewer of each stream."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy
from gateway.ingest.admission import Admission
from gateway.ingest.browser_intake import Intake, IntakeStats
from gateway.ingest.services import ListenerServices
from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.ingest.websocket.listener import WsListener
from gateway.ingest.websocket.services import WsServices
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.refusals import Refusals
from gateway.lib.sockets import listen
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import PendingConnections
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.stream import Stream
from gateway.live.unit_intake import IntakeFailed
from gateway.media.errors import InvalidData
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import NoSuchChannel
from gateway.ports.events import Event, Events
from gateway.settings.layers import load
from gateway.settings.models import WsSettings
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.builders import FAR
from tests.support.ladder_rig import Viewer
from tests.support.time_outs import at_most

SECRETS = SigningSecrets("a-secret-for-tests")
PROTECTION = PlaybackProtection(auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=0)


class Store:
    """Channels in memory. answer: cleared while it does not answer; error: is raised instead of an answer."""

    def __init__(self, *ids: str) -> None:
        self.channels = {id: Channel({"id": id, "key": SECRETS.sign(id, FAR), "outdate": FAR}) for id in ids}
        self.answer, self.asked = asyncio.Event(), asyncio.Event()
        self.answer.set()
        self.error: Exception | None = None

    async def get(self, id: str) -> Channel:
        self.asked.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        if id not in self.channels:
            raise NoSuchChannel(id)
        return self.channels[id]


class Box:
    """A container intake that publishes nothing. Bytes must start with `ok`; `bad` is invalid media.

    stuck: an event that `feed` waits for. fails: the exception of `run`.
    """

    def __init__(self, publisher: StreamPublisher) -> None:
        self.publisher = publisher
        self.fed: list[bytes] = []
        self.stuck: asyncio.Event | None = None
        self.fails: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stats = IntakeStats()
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            await self.fails
        finally:
            self.running = False

    async def feed(self, data: bytes) -> None:
        if self.stuck is not None:
            await self.stuck.wait()
        if data == b"bad":
            raise InvalidData("it is no recording")
        self.fed.append(data)

    def finish(self) -> None:
        if not self.fails.done():
            self.fails.set_result(None)

    def fail(self, reason: str, *, again: bool = False) -> None:
        self.fails.set_exception(IntakeFailed(reason, again=again))


@dataclass
class PushServer:
    """The state that tests read and change."""

    hub: Hub
    store: Store
    listener: WsListener
    workers: WorkerPool
    admission: Admission
    viewers: dict[str, list[Viewer]] = field(default_factory=dict)
    boxes: list[Box] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def url(self, id: str = "c1", *, sign: str | None = None, path: str | None = None, scheme: str = "ws") -> str:
        """The push URL of a channel."""
        key = self.store.channels[id].key if sign is None and id in self.store.channels else sign or ""
        return f"{scheme}://127.0.0.1:{self.listener.port}{path or f'/stream/{id}?sign={key}'}"

    def viewer(self, id: str = "c1") -> Viewer:
        """The viewer of the channel's latest stream."""
        return self.viewers[id][-1]

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
        """Waits for a true value and returns it."""
        try:
            async with asyncio.timeout(at_most(seconds)):
                while not (value := condition()):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never: {what}") from None
        return value

    async def empty(self) -> None:
        """Waits until no connection, publisher or worker is left."""
        await self.until(
            lambda: (
                not self.listener.connections
                and not self.workers.running
                and not any(stream.publisher for stream in self.hub)
            ),
            "everything is freed",
        )


@contextlib.asynccontextmanager
async def rig(
    *ids: str,
    tls: ssl.SSLContext | None = None,
    origins: tuple[str, ...] = (),
    forwarded: Forwarded | None = None,
    publishers_per_address: int = 0,
    refusals: int = 0,
    most_workers: int = 0,
    container: Callable[[StreamPublisher, WorkerPool], Intake] | None = None,
    compatible: CompatibleTargets | None = None,
    pending: PendingConnections | None = None,
    hub_limits: dict[str, float] | None = None,
    **changes: float,
) -> AsyncIterator[PushServer]:
    """Runs a listener. changes: to the settings in the sections `ws` and `limits`."""
    events = Events()
    told: list[Event] = []
    events.listen(told.append)
    viewers: dict[str, list[Viewer]] = {}

    def view(stream: Stream) -> Viewer:
        viewers.setdefault(stream.name, []).append(viewer := Viewer(stream.name))
        return viewer

    hub = builders.hub([OutputSpec("viewer", view, lambda s: True)], events=events, **(hub_limits or {}))
    store = Store(*(ids or ("c1",)))
    options: dict[str, float] = {"handshake": 2, "ping_interval": 10}
    overrides = [
        f"{'ws' if name in WsSettings.model_fields else 'limits'}.{name}={value}"
        for name, value in (options | changes).items()
    ]
    settings = load(environ={}, overrides=[f"workers.most={most_workers}", *overrides])
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    admission = Admission(
        store,  # type: ignore[arg-type]
        SECRETS,
        events,
        publishers_per_address=publishers_per_address,
        refusals=Refusals(refusals),
    )
    boxes: list[Box] = []

    def make_container(publisher: StreamPublisher) -> Intake:
        if container is not None:
            return container(publisher, workers)
        boxes.append(box := Box(publisher))
        return box

    crashes: list[str] = []
    async with Tasks("test", lambda name, error: crashes.append(f"{name}: {error!r}")) as tasks:
        shared = ListenerServices(
            settings=settings,
            opener=listen,
            tls=tls,
            tasks=tasks,
            acquire_publisher=hub.acquire_publisher,
            admission=admission,
            pending=PendingConnections() if pending is None else pending,
            streams=hub,
            plays=PlayAdmission(channels=store, protection=PROTECTION, wait=0),  # type: ignore[arg-type]
            srt_play=cast(Any, None),
            browser_streams=cast(Any, None),
            browser_media=cast(Any, None),
            sessions=cast(Any, None),
            ports=OpenPorts,
        )
        services = WsServices(
            shared,
            container=make_container,
            frames=lambda publisher: FramesIntake(publisher, workers),
            origins=OriginPolicy(origins),
            forwarded=forwarded or Forwarded(()),
            compatible=compatible,
        )
        listener = WsListener(services, "127.0.0.1", 0, tls)
        await listener.start()
        tasks.start(hub.run())
        tasks.start(listener.run())
        if compatible is not None:
            tasks.start(compatible.shelf.run())
        try:
            yield PushServer(hub, store, listener, workers, admission, viewers, boxes, told)
        finally:  # a test that fails leaves no socket to the next one
            listener.close()
            await listener.hang_up(grace=1)
    assert crashes == []
