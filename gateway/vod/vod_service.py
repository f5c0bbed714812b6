"""VodService: combines all parts of VOD in one process, for the API, the queue reader and the composition root."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import structlog

from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import InvalidField
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import VOD, StoredJob
from gateway.settings.models import VodSettings
from gateway.vod.sources import VodSources
from gateway.vod.uploads import Uploads
from gateway.vod.vod_runner import VodRunner
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

# The recordings of channels. They need no VOD job, but the events of their bucket may come here.
_RECORDED: Final = re.compile(r"[^/]+/(?:motion/)?mp4/[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}/[^/]+", re.ASCII)


class VodService:
    """settings: of the section `vod`; data: the data folder, in which unfinished things lie; sources: where films come
    from, and in whose store they are kept.

    settings: section `vod`. data: the data folder, for unfinished files. objects: store of the sources and outputs.
    bucket: its name, if it is an S3 bucket. buckets: opens other buckets; None without AWS.
    """

    def __init__(
        self,
        settings: VodSettings,
        *,
        data: Path,
        desk: JobQueue,
        sources: VodSources,
        workers: WorkerPool,
        secrets: SigningSecrets,
    ) -> None:
        self.desk = desk
        self.sources = sources
        self.runner = VodRunner(settings, workers, desk, sources, sources.objects, data / "vod")
        self.uploads = Uploads(settings, sources, secrets, desk, data / "uploads")

    async def submit(self, text: str) -> StoredJob:
        """Submits a job for the source that `text` names. Raises InvalidField, StoreUnavailable."""
        source = self.sources.parse(text)
        await self.sources.check(source)
        job, _ = await self.desk.submit(VOD, source.text)
        return job

    async def take(self, bucket: str, key: str) -> None:
        """Submits a job for an object in a queue's event. Raises StoreUnavailable.

        The job's id depends on key, size and time of the object. So a repeated event gives no second job, but an object
        that was written again does.
        """
        if _RECORDED.fullmatch(key):
            return
        try:
            source = self.sources.of_event(bucket, key)
            found = await self.sources.check(source)
        except InvalidField as error:
            # The object may have been deleted, or it is a part of an upload that ends with a later event.
            log.info("an event is of no use", bucket=bucket, object=key[:200], reason=error.message)
            return
        mark = hashlib.sha256(f"{source.text}\n{found.size}\n{found.modified}".encode()).hexdigest()[:16]
        await self.desk.submit(VOD, source.text, id=f"{int(found.modified * 1000)}-{mark}")
