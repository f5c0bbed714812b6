"""The parts of a process that its listeners for pushes use."""

from dataclasses import dataclass

from gateway.ingest.admission import Admission, PushRequest
from gateway.ingest.push import Push
from gateway.live.publisher import AcquirePublisher
from gateway.playback.services import PlayServices


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerServices(PlayServices):
    """The parts that all listeners of a process share. Protocols that also play use the parts for viewers.

    acquire_publisher: returns the publisher of a stream for a connection. admission: checks keys.
    """

    acquire_publisher: AcquirePublisher
    admission: Admission

    def make_push(self, request: PushRequest) -> Push:
        """Returns a new push of a client."""
        return Push(self.admission, self.acquire_publisher, request)
