"""Work that does not belong to a live stream: VOD conversion, uploads to Kinesis, deletion of old media."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from gateway.adapters.stores import sqlite_path
from gateway.outputs.kinesis.kvs_jobs import KvsJobs
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.outputs.storage.retention import Retention
from gateway.ports.job_queue import JobQueue
from gateway.ports.vod_names import is_vod_file
from gateway.vod.object_player import ObjectPlayer
from gateway.vod.sources import VodSources
from gateway.vod.vod_service import VodService

if TYPE_CHECKING:
    from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable
    from gateway.adapters.stores import Stores
    from gateway.app.node_parts import NodeParts
    from gateway.app.output_factory import OutputFactory
    from gateway.settings import Settings


class BackgroundJobs:
    """The background jobs of a gateway. They share the outputs' worker processes and Kinesis streams.

    tasks: the application's.
    """

    def __init__(
        self,
        parts: NodeParts,
        stores: Stores,
        makers: OutputFactory,
    ) -> None:
        settings, tasks = parts.settings, parts.tasks
        self._settings = settings
        self._stores = stores
        self._tasks = tasks
        self._running: list[asyncio.Task[Any]] = []
        desk = JobQueue(stores.jobs, parts.events)
        self.studio = VodService(
            settings.vod,
            data=settings.data,
            queue=desk,
            sources=VodSources(stores.objects, stores.bucket, stores.buckets, settings.vod.sources),
            workers=makers.workers,
            secrets=parts.secrets,
        )
        player = ObjectPlayer(makers.cloud.bucket, makers.workers, settings.data / "tmp", settings.kvs)
        self.kvs = KvsJobs(makers.kvs, player, desk, tasks)
        self._servers = _broadcast_servers(settings.ecs.addresses, stores)
        self.retention = Retention(stores.objects, stores.channels, settings.recording.retention_days)
        self.media_deletion = media_deletion(settings, stores)

    def start(self) -> None:
        """Starts the jobs, which run until the application's tasks end, or `stop`."""
        self._start(self.studio.runner.run(), "films")
        self._start(self.retention.run(), "retention")
        self._start(self.media_deletion.run(), "media deletion")
        vod = self._settings.vod
        if vod.queue:
            from gateway.adapters.aws.s3_events import S3Events

            assert self._stores.aws is not None, "a queue opens AWS with the stores"
            events = S3Events(self._stores.aws, vod.queue, vod.suffixes, self.studio.submit_object)
            self._start(events.run(), "queue")
        if self._servers is not None and self._settings.ecs.events:
            from gateway.adapters.aws.task_events import TaskEvents

            assert self._stores.aws is not None, "a queue opens AWS with the stores"
            self._start(TaskEvents(self._stores.aws, self._settings.ecs, self._servers).run(), "task events")

    @property
    def broadcast_servers(self) -> Callable[[], Awaitable[list[dict[str, str]]]] | None:
        """Returns the servers for the original's browser client; None where no table is kept."""
        return self._servers.servers if self._servers is not None else None

    def stop(self) -> None:
        """Stops the jobs, because another process takes over. VOD jobs in progress are given back."""
        for task in self._running:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._running.append(self._tasks.start(work, name))


def media_deletion(settings: Settings, stores: Stores) -> MediaDeletion:
    """Returns the object that deletes media with their channels. Commands use it too."""
    # Gateways that share channels but have a media folder each see only a part of the media. Channels in the data
    # folder belong to this gateway alone.
    local = settings.channels.startswith("sqlite:")
    alone = local and sqlite_path(settings.channels).resolve().is_relative_to(settings.data.resolve())
    shared = bool(stores.bucket) or alone
    return MediaDeletion(stores.objects, stores.channels, is_film=is_vod_file, shared=shared)


def _broadcast_servers(url: str, stores: Stores) -> BroadcastServerTable | None:
    if not url:
        return None
    from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable

    assert stores.aws is not None, "a table opens AWS with the stores"
    return BroadcastServerTable(stores.aws, url.partition("://")[2])
