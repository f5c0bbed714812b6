"""SoundWorkerConverter: converts the sound of a push or pull to AAC in a worker process."""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.lib.tasks import Tasks
from gateway.live.sound_to_aac import MakeConverter
from gateway.media.track import AccessUnit, ForeignSound, MediaTrack
from gateway.workers.sound_client import SoundWorkerClient, SoundWorkerFailed
from gateway.workers.sound_protocol import SoundSetup, aac_track, channels_of
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class SoundWorkerConverter:
    """Converts one stream of sound. It is left out if no worker can be started. Implements SoundToAac.

    stream: for logs. deliver: gets the units of AAC, whose times count as those of the source.
    """

    workers: WorkerPool
    tasks: Tasks
    stream: str
    deliver: Callable[[AccessUnit], None]
    _client: SoundWorkerClient | None = field(default=None, init=False)
    _foreign: ForeignSound | None = field(default=None, init=False)

    def change(self, track: MediaTrack, foreign: ForeignSound | None) -> None:
        if self._client is None or foreign != self._foreign:
            self.close()
            setup = SoundSetup(foreign=foreign)
            client = self._client = SoundWorkerClient(self.workers, self.stream, self.deliver, setup)
            self.tasks.start(self._run(client), f"sound of {self.stream}")
        self._foreign = foreign
        channels = channels_of(track) if foreign is None else foreign.channels
        self._client.change(track, aac_track(channels, track.timescale))

    def give(self, unit: AccessUnit) -> None:
        if self._client is not None:
            self._client.give(unit)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.finish()

    async def _run(self, client: SoundWorkerClient) -> None:
        try:
            await client.run()
        except SoundWorkerFailed as error:
            log.warning("sound is left out", stream=self.stream, reason=str(error))
            if self._client is client:
                self._client = None


def converters(workers: WorkerPool, tasks: Tasks, stream: str) -> MakeConverter:
    """Returns the maker of converters for the sound of a push or pull. tasks: of its owner."""
    return lambda deliver: SoundWorkerConverter(workers, tasks, stream, deliver)
