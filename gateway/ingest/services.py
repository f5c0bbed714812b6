"""The parts of a process that its listeners for pushes use."""

from dataclasses import dataclass

from gateway.ingest.admission import Admission, PushRequest
from gateway.ingest.push import Push
from gateway.live.channel_feed import ChannelFeed
from gateway.live.publisher import AcquirePublisher
from gateway.live.sound_to_aac import MakeConverter
from gateway.playback.services import PlayServices
from gateway.workers.sound_converter import converters
from gateway.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerServices(PlayServices):
    """The parts that all listeners of a process share. Protocols that also play use the parts for viewers.

    admission: checks keys. acquire_publisher: returns the publisher of a stream for a connection; None: an edge.
    workers: convert sound that browsers do not play; None: it stays as it is. feed: tells channels; None: an edge.
    """

    admission: Admission
    acquire_publisher: AcquirePublisher | None
    workers: WorkerPool | None = None
    feed: ChannelFeed | None = None

    def make_push(self, request: PushRequest) -> Push:
        """Returns a new push of a client."""
        return Push(self.admission, self.acquire_publisher, request)

    def sound_converter(self, stream: str) -> MakeConverter | None:
        """Returns the maker of converters for the sound of a push; None if there are no workers."""
        return None if self.workers is None else converters(self.workers, self.tasks, stream)
