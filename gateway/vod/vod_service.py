"""VodService: the sources, uploads and jobs of VOD in one process."""

import re
from pathlib import Path
from typing import Final

import structlog

from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import FilmInUse, InvalidField, StoreUnavailable
from gateway.ports.job_queue import JobQueue
from gateway.ports.jobs import VOD, StoredJob
from gateway.settings.models import VodSettings
from gateway.vod.films import Films
from gateway.vod.uploads import Uploads, is_film_upload
from gateway.vod.vod_runner import VodRunner
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

# Recordings of channels. They need no VOD job, but may be in the events of the bucket.
_RECORDING_KEY: Final = re.compile(r"[^/]+/(?:motion/)?mp4/[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}/[^/]+", re.ASCII)


class VodService:
    """Submits VOD jobs for the API and for events of buckets.

    data: the data folder, for unfinished files.
    """

    def __init__(
        self,
        settings: VodSettings,
        *,
        data: Path,
        queue: JobQueue,
        films: Films,
        workers: WorkerPool,
        secrets: SigningSecrets,
    ) -> None:
        self._suffixes = tuple(suffix.lower() for suffix in settings.suffixes)
        self.queue = queue
        self.films = films
        self.sources = films.sources
        self.runner = VodRunner(settings, workers, queue, films, data / "vod")
        self.captions = self.runner.captions
        self.uploads = Uploads(settings, secrets, films, data / "uploads")

    async def submit(self, text: str, title: str = "", description: str = "") -> StoredJob:
        """Submits a job for the source `text`. Raises InvalidField, FilmInUse, StoreUnavailable."""
        source = self.sources.parse(text)
        await self.sources.check(source)
        await self.films.begin(source.names, source.text, title, description)
        job, _ = await self.queue.submit(VOD, source.text)
        return job

    async def cancel(self, id: str) -> StoredJob:
        """Cancels a job, and removes its film if it was never finished. Raises NoSuchJob, JobFinished."""
        job = await self.queue.cancel(id)
        source = self.sources.find(job.source) if job.kind == VOD else None
        if source is not None:
            await self.films.cancel(source.names)
        return job

    async def submit_object(self, bucket: str, key: str) -> None:
        """Submits a job for an object in an event of a bucket: an upload, or one of vod.suffixes.

        A repeated event creates no second job. Raises StoreUnavailable.
        """
        is_film = not self._suffixes or is_film_upload(key) or key.lower().endswith(self._suffixes)
        if not is_film or _RECORDING_KEY.fullmatch(key):
            return
        try:
            await self.films.submit_stored(self.sources.parse(f"s3://{bucket}/{key}"))
        except InvalidField as error:
            # The object may have been deleted, or it belongs to an upload that ends with a later event.
            log.info("an event has no usable source", bucket=bucket, object=key[:200], reason=error.message)
        except FilmInUse as error:
            raise StoreUnavailable(str(error)) from None  # the event is delivered again later
