"""Studio: everything that VoD is in one process, put together; what the API, the queue and the composition root use."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.hub.access import Secrets
from gateway.hub.desk import JobDesk
from gateway.hub.errors import InvalidField
from gateway.hub.jobs import VOD, Job
from gateway.hub.ports import ObjectStore
from gateway.settings.models import Vod
from gateway.transcode.launch import Workers
from gateway.vod.runner import VodRunner
from gateway.vod.sources import Sources
from gateway.vod.uploads import Uploads

log = structlog.get_logger(__name__)

# What channels record: it is a film already, and the bucket that it goes to may be the one that tells of films.
_RECORDED: Final = re.compile(r"[^/]+/(?:motion/)?mp4/[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}/[^/]+", re.ASCII)


class Studio:
    """settings: of the section `vod`; data: the data folder, in which unfinished things lie; objects: where films come
    from and go to, s3://`bucket` where it is one; buckets: opens others (None: there is no AWS here).

    Its owner runs `runner.run()`.
    """

    def __init__(
        self,
        settings: Vod,
        *,
        data: Path,
        desk: JobDesk,
        objects: ObjectStore,
        workers: Workers,
        secrets: Secrets,
        bucket: str = "",
        buckets: Callable[[str], ObjectStore] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.desk = desk
        self.sources = Sources(objects, bucket, buckets, settings.sources)
        self.runner = VodRunner(settings, workers, desk, self.sources, objects, data / "vod")
        self.uploads = Uploads(
            objects,
            secrets,
            self.sources,
            desk,
            data / "uploads",
            most=settings.upload_bytes,
            seconds=settings.upload_seconds,
            clock=clock,
        )

    async def submit(self, text: str) -> Job:
        """A job for the film that `text` names. Raises InvalidField, StoreAway."""
        source = self.sources.parse(text)
        await self.sources.check(source)
        job, _ = await self.desk.submit(VOD, source.text)
        return job

    async def take(self, bucket: str, key: str) -> None:
        """The same for an object that a queue told of, however often it does. Raises StoreAway.

        An object is known by its key, size and time: told of twice it is one job, put there anew it is another.
        """
        if _RECORDED.fullmatch(key):
            return
        try:
            source = self.sources.of_event(bucket, key)
            found = await self.sources.check(source)
        except InvalidField as error:
            # It may be gone again, or one part of an upload whose end is told of later.
            log.info("an event is of no use", bucket=bucket, object=key[:200], reason=error.message)
            return
        mark = hashlib.sha256(f"{source.text}\n{found.size}\n{found.modified}".encode()).hexdigest()[:16]
        await self.desk.submit(VOD, source.text, id=f"{int(found.modified * 1000)}-{mark}")
