"""The parts of a process that all its listeners use."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.channels.addresses import OpenPorts
from gateway.channels.stores import ChannelReader
from gateway.ingest.admission import Admission
from gateway.ingest.pending_connections import PendingConnections
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import Opener
from gateway.lib.tasks import Tasks
from gateway.live.publisher import AcquirePublisher
from gateway.playback.play_format import PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.webrtc.signalling import Signalling
from gateway.settings import Settings
from gateway.settings.models import ListenAddress
from gateway.webrtc.endpoint import WebRtcEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerServices:
    """The parts that all listeners of a process share. Listeners never close them.

    opener: opens the sockets of a port. tls: the context of the ports over TLS; None: TLS is off.
    lease: returns the publisher of a stream for a connection.
    admission: checks keys. pending: limits the connections that have not sent a valid key yet.
    streams, channels, protection: for protocols that also play.
    ports: returns the ports of this process. They are known after all ports are bound.
    webrtc, sessions: the port of WebRTC, and the sessions that HTTP requests open on it.
    reads: schedules the reads of all sockets.
    """

    settings: Settings
    opener: Opener
    tls: ssl.SSLContext | None
    tasks: Tasks
    lease: AcquirePublisher
    admission: Admission
    pending: PendingConnections
    streams: PlayableStreams
    channels: ChannelReader
    protection: PlaybackProtection
    ports: Callable[[], OpenPorts]
    webrtc: WebRtcEndpoint
    sessions: Signalling
    reads: ReadScheduler = field(default_factory=ReadScheduler)

    def addresses(self, name: str) -> Iterator[tuple[ListenAddress, ssl.SSLContext | None]]:
        """Yields the addresses of one protocol, each with its TLS context."""
        for address in self.settings.listeners():
            if address.name == f"{name}s" if address.tls else address.name == name:
                yield address, self.tls if address.tls else None
