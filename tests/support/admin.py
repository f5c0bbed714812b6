"""The admin API in this process: the real application with a real SQLite store and a real hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.adapters.cloud import AwsServices
from gateway.adapters.local.objects import LocalObjects
from gateway.adapters.local.stores import SqliteChannels, SqliteConsole, SqliteEvents
from gateway.alarms.alarms import Alarms, AlarmSources
from gateway.alarms.fault_board import FaultBoard
from gateway.api.alarms import ALARMS
from gateway.api.appearance import SITE_PAGES
from gateway.api.application import make_app
from gateway.api.authenticators import Authenticators
from gateway.api.channel_forms import DEFAULTS, LADDERS, RUNS_TASKS
from gateway.api.channels import MEDIA_DELETION
from gateway.api.console import UPLOAD_ORIGIN, UploadOrigin
from gateway.api.context import AddressDefaults, Context, RequestLimits
from gateway.api.cues import CUES
from gateway.api.events import EVENT_LOG
from gateway.api.history import RECORDER, TRAFFIC
from gateway.api.inputs import PREVIEWS
from gateway.api.ivs import IVS
from gateway.api.login_sessions import LoginLimits
from gateway.api.recordings import BIN, FOLDER, REPLAYS, RETENTION_DAYS
from gateway.api.route import Route
from gateway.api.routes import ROUTES
from gateway.api.servers import KEY_SERVERS
from gateway.api.sessions import EXPERIENCE, REFUSALS, REMOTE_VIEWERS
from gateway.api.shows import SHOWS
from gateway.api.status import CERTIFICATE, NODE, READINESS, SPEECH
from gateway.channels.addresses import OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.stream_key import SigningSecrets
from gateway.diagnosis.cue_log import CueLog
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.diagnosis.event_log import EventLog
from gateway.diagnosis.experience import Experience
from gateway.diagnosis.recorder import Recorder, stream_values
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.diagnosis.show_log import ShowLog, ShowSources
from gateway.http.forwarded import Forwarded
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.previews import InputPreviews
from gateway.lib.metrics import Metrics
from gateway.lib.readiness import Readiness
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.outputs.storage.recording_index import RecordingIndex
from gateway.playback.replays import Replays
from gateway.ports.cluster_queries import SingleNode
from gateway.ports.events import Events
from gateway.reports.hub_samples import HubSamples
from gateway.reports.node_status import NodeStatus
from gateway.reports.push_servers import KeyServers
from gateway.settings.ladders import load_ladders
from gateway.settings.models import EventsSettings
from gateway.vod.bin import Bin
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO

TOKEN = "a-token-for-tests"
SECRET = "a-secret-for-tests"
PORTS = OpenPorts(rtmp=1935, http=8080, ws=8081, admin=8000)
FAR = "2090-01-01"


@dataclass
class Admin:
    """A running API and the parts behind it."""

    client: TestClient[web.Request, web.Application]
    store: SqliteChannels
    hub: Hub
    events: Events
    metrics: Metrics
    readiness: Readiness
    forgotten: list[str]
    authenticators: Authenticators
    node: NodeStatus
    inputs: ChannelInputs
    previews: InputPreviews
    context: Context
    shows: ShowLog

    async def call(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, token: str | None = TOKEN
    ) -> ClientResponse:
        """Sends one request. raw: a body that is sent unchanged."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        response = await self.client.request(method, path, data=data, headers=headers)
        await response.read()
        return response

    async def json(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Sends one request, checks its status, and returns the JSON of the answer."""
        response = await self.call(method, path, body)
        assert response.status == status, await response.text()
        return await response.json()

    async def create(self, **fields: Any) -> dict[str, Any]:
        item: dict[str, Any] = await self.json("POST", "/videostream", {"outdate": FAR, **fields})
        return item

    async def push(self, id: str, evicted: list[EndReason] | None = None) -> StreamPublisher:
        """Returns a publisher of a stored channel, with announced tracks."""
        told = evicted if evicted is not None else []
        channel = await self.store.get(id)
        publisher = self.hub.publish_from(PushOrigin("rtmp", "192.0.2.7:5000"), channel, id, told.append)
        publisher.set_tracks(VIDEO, AUDIO, {})
        return publisher


@dataclass(frozen=True)
class FixedToken:
    """The fixed admin token of a test. mark: changed to simulate another token."""

    mark: str

    def verify(self, token: str) -> bool:
        return token == TOKEN


INPUTS = builders.inputs_settings(silence=600)  # a test sends few pictures, and the machine may be slow
EVENTS = EventsSettings(store="sqlite:///events.db", days=7, most=1000)


class Idle:
    """An output that does nothing until its stream ends."""

    async def run(self, stream: Stream) -> None:
        ended = asyncio.Event()
        stream.when_ended(lambda reason: ended.set())
        await ended.wait()


def _wants(flag: str) -> Any:
    def wanted(stream: Stream) -> bool:
        return stream.channel.flag(flag)

    return wanted


SPECS = tuple(OutputSpec(name, lambda s: Idle(), _wants(flag)) for name, flag in (("flv", "isFlv"), ("hls", "isHls")))


@contextlib.asynccontextmanager
async def admin(
    folder: Path,
    *,
    specs: Sequence[OutputSpec] = SPECS,
    limits: RequestLimits | None = None,
    refusals_per_minute: int = 30,
    address_defaults: AddressDefaults | None = None,
    per_stream: bool = False,
    store: Any = None,
    domains: Any = None,
    console: Any = None,
    idle: float = 43_200,
    most: float = 604_800,
    provider: Any = None,
    token_mark: str = "the mark of that token",
    clock: Callable[[], float] = time.time,
    checks: Any = None,
    jpegs: Any = None,
    routes: Sequence[Route] = ROUTES,
    proxies: Forwarded | None = None,
    objects: Any = None,
    cluster: Any = None,
    refusals: RefusalLog | None = None,
    services: Mapping[web.AppKey[Any], Any] | None = None,
) -> AsyncIterator[Admin]:
    """Runs the API while the block runs.

    console: replaces the SQLite file. clock: time of logins. jpegs: source of input previews.
    routes: of the API. services: what routes of one tag use, instead of the default.
    """
    events = Events()
    hub = builders.hub(specs, events=events)
    refusals = RefusalLog() if refusals is None else refusals
    events.listen(refusals.listen)
    metrics = Metrics("1.2.3")
    async with (
        SqliteChannels(folder / "millrace.db") as sqlite,
        SqliteConsole(folder / "console.db", clock) as kept,
        SqliteEvents(folder / "events.db") as stored,
        EventLog(stored, "n1", EVENTS, metrics.events) as event_log,
    ):
        metrics.read_from(HubSamples(hub, events, per_stream))
        events.listen(event_log.record)
        readiness = Readiness()
        for name, check in (checks if checks is not None else {"channel store": (store or sqlite).check}).items():
            readiness.add(name, check)
        forgotten: list[str] = []
        authenticators = Authenticators(
            console or kept,
            FixedToken(token_mark),
            LoginLimits(idle, most),
            refusals_per_minute=refusals_per_minute,
            provider=provider,
            clock=clock,
        )
        node = NodeStatus(folder, {"channels": "sqlite", "objects": "file", "jobs": "sqlite", "console": "sqlite"})
        values = stream_values(lambda stream: sum(stream.viewers.values()))
        inputs = ChannelInputs(
            hub, INPUTS, cast(Any, None), lambda stream: sum(stream.viewers.values()), store or sqlite
        )
        previews = InputPreviews(hub, inputs, jpegs)
        objects = objects or LocalObjects(folder / "media")
        board = FaultBoard(hub.find)
        sources = AlarmSources(board, cast(Any, None), cast(Any, None))
        experience = Experience(metrics)
        measured = ShowSources(hub, experience, lambda stream: stream.viewers, Channel.show_title)
        shows = ShowLog(measured, console or kept, EVENTS.days * 86_400)
        events.listen(shows.note)
        servers = KeyServers(SigningSecrets(SECRET), store or sqlite, sqlite, SingleNode(), lambda: PORTS)
        provided: dict[web.AppKey[Any], Any] = {
            NODE: node,
            READINESS: readiness,
            RECORDER: Recorder(hub, dict, values),
            EXPERIENCE: experience,
            SHOWS: shows,
            CUES: CueLog(hub, events),
            TRAFFIC: DailyTraffic(hub.traffic, console or kept),
            PREVIEWS: previews,
            REFUSALS: refusals,
            REMOTE_VIEWERS: RemoteViewerCounts(),
            EVENT_LOG: event_log,
            ALARMS: Alarms(sources, console or kept, cast(Any, None)),
            BIN: Bin(objects, 24, folder / "tmp", RecordingIndex(objects).files_of),
            MEDIA_DELETION: None,
            IVS: AwsServices(None, ""),
            UPLOAD_ORIGIN: UploadOrigin(None),
            KEY_SERVERS: servers,
            SITE_PAGES: SimpleNamespace(expire=lambda: None),
            RUNS_TASKS: False,
            RETENTION_DAYS: 0,
            FOLDER: folder / "tmp",
            REPLAYS: Replays(objects, cast(Any, None), True),
            DEFAULTS: {},
            LADDERS: load_ladders(),
            SPEECH: False,
            CERTIFICATE: lambda: None,
            **(services or {}),
        }

        def provide(app: web.Application) -> None:
            for key, value in provided.items():
                app[key] = value

        cluster = cluster or SingleNode()
        effects = builders.change_effects(hub, events, forget=forgotten.append, tell_nodes=cluster.changed)
        context = Context(
            hub=hub,
            inputs=inputs,
            channels=store or sqlite,
            domains=domains or sqlite,
            secrets=SigningSecrets(SECRET),
            authenticators=authenticators,
            address_defaults=address_defaults or AddressDefaults(lambda: PORTS),
            limits=limits or RequestLimits(body=256_000, item=64_000, request=10),
            metrics=metrics,
            changes=ChannelChanges(store or sqlite, objects, effects, bin_hours=24),
            objects=objects,
            provide=provide,
            cluster=cluster,
        )
        async with TestClient(TestServer(make_app(context, proxies or Forwarded(()), routes))) as client:
            yield Admin(
                client,
                sqlite,
                hub,
                events,
                metrics,
                readiness,
                forgotten,
                authenticators,
                node,
                inputs,
                previews,
                context,
                shows,
            )
        hub.drain()
        await hub.drained()
