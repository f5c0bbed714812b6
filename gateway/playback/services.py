"""The parts of a process that its listeners for viewers use."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.channels.addresses import OpenPorts
from gateway.channels.stores import ChannelReader
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.lib.sockets import Opener
from gateway.lib.tasks import Tasks
from gateway.listeners.pending_connections import PendingConnections
from gateway.playback.playable_streams import BrowserMedia, PlayableStreams
from gateway.playback.protection import PlaybackProtection
from gateway.playback.viewer_limits import ViewerLimits
from gateway.settings import Settings
from gateway.settings.models import ListenAddress
from gateway.webrtc.signalling import Signalling

if TYPE_CHECKING:
    from gateway.playback.play_hook import PlayHook


async def _same(id: str) -> str:
    """The default for `channel_id`: no channel has a slug."""
    return id


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayServices:
    """The parts that all listeners of a process share. Listeners never close them.

    opener: opens the sockets of a port. tls: the context of the ports over TLS; None: TLS is off.
    pending: limits the connections that have not sent a valid key yet.
    streams, channels, protection: for viewers. channel_id: returns the id of a channel by its slug or id.
    browser_streams, browser_media: for viewers by WebRTC.
    ports: returns the ports of this process. They are known after all ports are bound.
    viewer_limits: refuses viewers above a bandwidth. play_hook: asks whether a viewer may play; None: nobody is asked.
    sessions: the WebRTC sessions that HTTP requests open, with their endpoint.
    reads: schedules the reads of all sockets. is_first: whether this is the first process of its host.
    """

    settings: Settings
    opener: Opener
    tls: ssl.SSLContext | None
    tasks: Tasks
    pending: PendingConnections
    streams: PlayableStreams
    channels: ChannelReader
    protection: PlaybackProtection
    browser_streams: PlayableStreams
    browser_media: BrowserMedia
    ports: Callable[[], OpenPorts]
    sessions: Signalling
    channel_id: Callable[[str], Awaitable[str]] = _same
    play_hook: PlayHook | None = None
    viewer_limits: ViewerLimits = field(default_factory=lambda: ViewerLimits(0.0, {}))
    reads: ReadScheduler = field(default_factory=ReadScheduler)
    is_first: bool = True

    def addresses(self, name: str) -> Iterator[tuple[ListenAddress, ssl.SSLContext | None]]:
        """Yields the addresses of one protocol, each with its TLS context."""
        for address in self.settings.listeners():
            if address.name == f"{name}s" if address.tls else address.name == name:
                yield address, self.tls if address.tls else None
