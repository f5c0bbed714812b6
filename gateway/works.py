"""The works: what is done apart from streams: films become HLS, objects go to Kinesis, what is old is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.hub.desk import JobDesk
from gateway.lib.aio import Tasks
from gateway.sinks.kvs.jobs import KvsJobs
from gateway.sinks.retention import Retention
from gateway.vod.player import ObjectPlayer
from gateway.vod.studio import Studio

if TYPE_CHECKING:
    from gateway.adapters import Stores
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
        self.retention = Retention(stores.objects, stores.channels, settings.recording.retention_days)

    def start(self) -> None:
        """Until the application's tasks end."""
        self._tasks.start(self.studio.runner.run(), "films")
        self._tasks.start(self.retention.run(), "retention")
        vod = self._settings.vod
        if vod.queue:
            from gateway.adapters.aws.queue import S3Events

            assert self._stores.aws is not None, "a queue opens AWS with the stores"
            events = S3Events(self._stores.aws, vod.queue, vod.suffixes, self.studio.take)
            self._tasks.start(events.run(), "queue")
