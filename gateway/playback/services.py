"""The parts of a process that its listeners for viewers use."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.channels.addresses import OpenPorts
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import Opener
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import PendingConnections
from gateway.playback.play import Play, PlayAdmission, ViewerRequest
from gateway.playback.playable_streams import BrowserMedia, PlayableStreams
from gateway.settings import Settings
from gateway.settings.models import ListenAddress
from gateway.srt.listener_sessions import RequestSrtPlay
from gateway.webrtc.signalling import Signalling


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayServices:
    """The parts that all listeners of a process share. Listeners never close them.

    opener: opens the sockets of a port. tls: the context of the ports over TLS; None: TLS is off.
    pending: limits the connections that have not sent a valid key yet.
    streams: what viewers play. plays: decides who may. srt_play: returns the play that a caller of SRT asks for.
    browser_streams, browser_media: for viewers by WebRTC.
    ports: returns the ports of this process. They are known after all ports are bound.
    sessions: the WebRTC sessions that HTTP requests open, with their endpoint.
    reads: schedules the reads of all sockets. is_first: whether this is the first process of its host.
    """

    settings: Settings
    opener: Opener
    tls: ssl.SSLContext | None
    tasks: Tasks
    pending: PendingConnections
    streams: PlayableStreams
    plays: PlayAdmission
    srt_play: RequestSrtPlay
    browser_streams: PlayableStreams
    browser_media: BrowserMedia
    ports: Callable[[], OpenPorts]
    sessions: Signalling
    reads: ReadScheduler = field(default_factory=ReadScheduler)
    is_first: bool = True

    def make_play(self, request: ViewerRequest) -> Play:
        """Returns a new play of a client."""
        return Play(self.plays, self.streams, request)

    def addresses(self, name: str) -> Iterator[tuple[ListenAddress, ssl.SSLContext | None]]:
        """Yields the addresses of one protocol, each with its TLS context."""
        for address in self.settings.listeners():
            if address.name == f"{name}s" if address.tls else address.name == name:
                yield address, self.tls if address.tls else None
