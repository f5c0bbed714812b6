"""Background jobs without a live stream: VOD conversion, uploads to Kinesis, deletion of old media."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.adapters.stores import sqlite_path
from gateway.channels.expiry_notices import INTERVAL_SECONDS, ExpiryNotices
from gateway.outputs.kinesis.kvs_jobs import KvsJobs
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.outputs.storage.periodic_deletion import run_periodically
from gateway.outputs.storage.recording_index import RecordingIndex
from gateway.outputs.storage.retention import Retention
from gateway.outputs.storage.rewind_deletion import RewindDeletion
from gateway.ports.job_queue import JobQueue
from gateway.ports.vod_names import is_vod_file
from gateway.vod.bin import Bin
from gateway.vod.films import Films, forget_film
from gateway.vod.object_player import ObjectPlayer
from gateway.vod.sources import VodSources
from gateway.vod.vod_service import VodService

if TYPE_CHECKING:
    from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable
    from gateway.adapters.stores import Stores
    from gateway.alarms.alarms import Alarms
    from gateway.app.node_parts import NodeParts
    from gateway.app.parts.output_factory import OutputFactory
    from gateway.outputs.clips.trims import Trims
    from gateway.settings import Settings

_BIN_SECONDS: Final = (90.0, 900.0)  # until the first deletion of old entries, and between two


class BackgroundJobs:
    """The background jobs of a gateway. They share the outputs' worker processes and Kinesis streams."""

    def __init__(self, parts: NodeParts, stores: Stores, outputs: OutputFactory, alarms: Alarms, trims: Trims) -> None:
        settings, tasks = parts.settings, parts.tasks
        self._settings, self._stores, self._tasks = settings, stores, tasks
        self._running: list[asyncio.Task[Any]] = []
        queue = JobQueue(stores.jobs, parts.events)
        sources = VodSources(stores.objects, stores.bucket, stores.buckets, settings.vod.sources, trims)
        files_of = RecordingIndex(stores.objects).files_of
        self.bin = Bin(stores.objects, settings.recording.bin_hours, settings.data / "tmp", files_of)
        films = Films(stores.films, sources, queue, self.bin)
        self.vod_service = VodService(
            settings.vod, data=settings.data, queue=queue, films=films, workers=outputs.workers, secrets=parts.secrets
        )
        if stores.changes is not None:
            stores.changes.listen("jobs", lambda id: self.vod_service.runner.wake())
        player = ObjectPlayer(outputs.cloud.bucket, outputs.workers, settings.data / "tmp", settings.kvs)
        self.kvs = KvsJobs(outputs.kvs, player, queue)
        self._broadcast_table = _open_broadcast_table(settings.ecs.addresses, stores)
        self.retention = Retention(
            stores.objects, stores.channels, settings.recording.retention_days, settings.clips.retention_days
        )
        self.rewind_deletion = RewindDeletion(stores.objects, stores.channels)
        self.media_deletion = media_deletion(settings, stores)
        self._notices = ExpiryNotices(stores.channels, stores.console, parts.events.emit, alarms.report_expiring)

    def start(self) -> None:
        """Starts the jobs. They run until the process's tasks end, or until `stop`."""
        self._start(self.vod_service.runner.run, "VOD jobs")
        self._start(self.vod_service.films.run, "films")
        self._start(self.retention.run, "retention")
        self._start(self.rewind_deletion.run, "rewind deletion")
        self._start(self.media_deletion.run, "media deletion")
        emptied = partial(run_periodically, self.bin.delete_old, "the bin could not be emptied", *_BIN_SECONDS)
        self._start(emptied, "bin")
        failure = "keys that expire soon cannot be announced"
        notices = partial(run_periodically, self._notices.run_once, failure, 0, INTERVAL_SECONDS)
        self._start(notices, "key notices")
        if self._settings.kvs.stream:
            self._tasks.keep(self.kvs.run, "kinesis jobs")
        self._read_bucket_events()
        if self._broadcast_table is not None and self._settings.ecs.events:
            from gateway.adapters.aws.sqs_reader import SqsReader
            from gateway.adapters.aws.task_events import TaskEvents

            assert self._stores.aws is not None, "AWS is open, because ecs.events is set"
            ecs = self._settings.ecs
            reader = SqsReader(self._stores.aws, ecs.events, TaskEvents(ecs, self._broadcast_table).handle)
            self._start(reader.run, "task events")

    def _read_bucket_events(self) -> None:
        """Starts to read the queues of new objects. `vod.queue` and `kvs.queue` may be one queue."""
        vod, kvs = self._settings.vod, self._settings.kvs
        if not vod.queue and not kvs.queue:
            return
        from gateway.adapters.aws.s3_events import ObjectRule, object_handler
        from gateway.adapters.aws.sqs_reader import SqsReader

        assert self._stores.aws is not None, "AWS is open, because a queue is set"
        films = ObjectRule(self.vod_service.submit_object, excluded=kvs.prefix if kvs.queue else "")
        objects = ObjectRule(self.kvs.submit_object, kvs.suffixes, kvs.prefix)
        for url in {vod.queue, kvs.queue} - {""}:
            rules = [rule for queue, rule in ((vod.queue, films), (kvs.queue, objects)) if queue == url]
            room = self.kvs.wait_for_room if url == kvs.queue else None
            self._start(SqsReader(self._stores.aws, url, object_handler(rules), room=room).run, "queue")

    @property
    def broadcast_servers(self) -> Callable[[], Awaitable[list[dict[str, str]]]] | None:
        """The function that lists the nodes to which the old system's browser client may push; None without a table."""
        return self._broadcast_table.servers if self._broadcast_table is not None else None

    def stop(self) -> None:
        """Stops the jobs, because another process replaces this one.

        Unfinished VOD jobs return to the queue. A running Kinesis job continues until the process ends.
        """
        self.kvs.retire()
        for task in self._running:
            task.cancel()

    def _start(self, job: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._running.append(self._tasks.keep(job, name))


def media_deletion(settings: Settings, stores: Stores) -> MediaDeletion:
    """Returns the deletion of media with their channels. CLI commands use it too."""
    # Gateways may share channels but have separate media folders. Then each has only some of the media. A single
    # gateway has its channels in its data folder, which no other gateway uses.
    local = settings.channels.startswith("sqlite:")
    single = local and sqlite_path(settings.channels).resolve().is_relative_to(settings.data.resolve())
    shared = bool(stores.bucket) or single
    forget = partial(forget_film, stores.films)
    return MediaDeletion(stores.objects, stores.channels, is_film=is_vod_file, shared=shared, forget_film=forget)


def _open_broadcast_table(url: str, stores: Stores) -> BroadcastServerTable | None:
    if not url:
        return None
    from gateway.adapters.aws.broadcast_server_table import BroadcastServerTable

    assert stores.aws is not None, "AWS is open, because ecs.addresses is set"
    return BroadcastServerTable(stores.aws, url.partition("://")[2])
