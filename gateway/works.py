"""The works: what is done apart from streams: films become HLS, objects go to Kinesis, what is old is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from gateway.hub.desk import JobDesk
from gateway.lib.aio import Tasks
from gateway.sinks.kvs.jobs import KvsJobs
from gateway.sinks.retention import Retention
from gateway.vod.player import ObjectPlayer
from gateway.vod.studio import Studio

if TYPE_CHECKING:
    from gateway.adapters import Stores
    from gateway.adapters.aws.servers import BroadcastServers
    from gateway.adapters.cloud import Cloud
    from gateway.hub.access import Secrets
    from gateway.hub.events import Events
    from gateway.outputs import Makers
    from gateway.settings import Settings


class Works:
    """Made by the app beside the outputs, whose workers and Kinesis streams it shares. tasks: the application's."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        cloud: Cloud,
        secrets: Secrets,
        events: Events,
        makers: Makers,
        tasks: Tasks,
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._tasks = tasks
        self._running: list[asyncio.Task[Any]] = []
        desk = JobDesk(stores.jobs, events)
        self.studio = Studio(
            settings.vod,
            data=settings.data,
            desk=desk,
            objects=stores.objects,
            workers=makers.workers,
            secrets=secrets,
            bucket=stores.bucket,
            buckets=stores.buckets,
        )
        player = ObjectPlayer(cloud.bucket, makers.workers, settings.data / "tmp", settings.kvs)
        self.kvs = KvsJobs(makers.kvs, player, desk, tasks)
        self._servers = _broadcast_servers(settings.ecs.addresses, stores)
        self.retention = Retention(stores.objects, stores.channels, settings.recording.retention_days)

    def start(self) -> None:
        """Until the application's tasks end, or `stop`."""
        self._start(self.studio.runner.run(), "films")
        self._start(self.retention.run(), "retention")
        vod = self._settings.vod
        if vod.queue:
            from gateway.adapters.aws.queue import S3Events

            assert self._stores.aws is not None, "a queue opens AWS with the stores"
            events = S3Events(self._stores.aws, vod.queue, vod.suffixes, self.studio.take)
            self._start(events.run(), "queue")
        if self._servers is not None and self._settings.ecs.events:
            from gateway.adapters.aws.task_events import TaskEvents

            assert self._stores.aws is not None, "a queue opens AWS with the stores"
            self._start(TaskEvents(self._stores.aws, self._settings.ecs, self._servers).run(), "task events")

    @property
    def broadcast_servers(self) -> Callable[[], Awaitable[list[dict[str, str]]]] | None:
        """What the original's browser client asks for; None where no table is kept."""
        return self._servers.servers if self._servers is not None else None

    def stop(self) -> None:
        """Somebody else does it from now on: films that are at work are given back."""
        for task in self._running:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._running.append(self._tasks.start(work, name))


def _broadcast_servers(url: str, stores: Stores) -> BroadcastServers | None:
    if not url:
        return None
    from gateway.adapters.aws.servers import BroadcastServers

    assert stores.aws is not None, "a table opens AWS with the stores"
    return BroadcastServers(stores.aws, url.partition("://")[2])
