"""The common parts of all pulls: services, timeouts, and the output of units that are not FLV."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.inputs.descriptor import InputContext
from gateway.lib.egress import Egress
from gateway.live.publisher import StreamPublisher
from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError
from gateway.workers.worker_pool import WorkerPool

CONNECT_SECONDS: Final = 10.0  # to connect, and for each answer of the server
SILENCE_SECONDS: Final = 10.0  # without media
KEY_FRAME_SECONDS: Final = 10.0  # from the first media to the first key frame
USER_AGENT: Final = "Millrace"


@dataclass(frozen=True, slots=True)
class PullParts:
    """The services of all pulls. tls: None: the system's authorities."""

    egress: Egress
    tls: ssl.SSLContext | None
    workers: WorkerPool

    def context_for(self, scheme: str) -> ssl.SSLContext | None:
        """Returns the TLS context of a scheme that ends in "s", else None."""
        return (self.tls or ssl.create_default_context()) if scheme.endswith("s") else None


def peer_of(url: str) -> str:
    """Returns host and port of an address, without secrets."""
    return urlsplit(url).netloc.rpartition("@")[2][:255]


class UnitOutput:
    """Publishes tracks and units. The first tracks open the publisher."""

    def __init__(self, context: InputContext, peer: str) -> None:
        self._context = context
        self._peer = peer
        self._publisher: StreamPublisher | None = None

    @property
    def begun(self) -> bool:
        return self._publisher is not None

    def announce(self, tracks: Tracks) -> None:
        """Announces tracks. Raises OutputError if they change too often."""
        if self._publisher is None:
            self._publisher = self._context.publish(self._peer)
        try:
            self._publisher.set_tracks(tracks.video, tracks.audio, {})
        except InvalidData as error:
            raise OutputError(str(error)) from error

    def push(self, unit: AccessUnit) -> None:
        """Publishes a unit that arrives now. Hot path."""
        assert self._publisher is not None, "the tracks come first"
        unit.wall = time.time()
        self._publisher.push(unit, time.monotonic())

    def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
