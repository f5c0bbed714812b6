"""The ports of channels (`srtPort`): encoders that cannot send a stream id call them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.channels.channel import Channel
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.sockets import ListenError
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.udp_listener import UdpListener
from gateway.live.health_report import HealthFinding
from gateway.srt.listener_sessions import RequestOfCaller, SrtRequest

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _ChannelPort:
    """The port of a channel. listener: None if it cannot be opened."""

    number: int
    channel: Channel
    listener: UdpListener | None = None


@dataclass(slots=True)
class ChannelPorts:
    """The ports of all channels, which are open in one process of each host. `follow` is for `ChannelFeed.listen`.

    Every caller of a port pushes to its channel, with the channel's own key, and whatever its stream id is. A port that
    cannot be opened is tried again with the next list of channels.

    findings: gets why the port of a channel is not open. opened: gets the open ports. reads: gets their reads, for the
    ticker. bind: binds a port for the requests of its callers. Raises ListenError. push: returns the request to push to
    a channel, for an address.
    """

    findings: dict[str, HealthFinding]
    opened: OpenListeners
    reads: list[Callable[[], None]]
    bind: Callable[[int, RequestOfCaller], UdpListener]
    push: Callable[[Channel, str], SrtRequest]
    _ports: dict[str, _ChannelPort] = field(default_factory=dict, init=False)  # by the channel's id

    def follow(self, channels: Mapping[str, Channel | None], is_all: bool) -> None:
        """Closes and opens ports. See FollowChannels."""
        for id, port in list(self._ports.items()):
            channel = channels.get(id)
            if channel is not None and channel.srt_port == port.number:
                port.channel = channel
            elif id in channels or is_all:
                self._close(self._ports.pop(id))
        for channel in channels.values():
            if channel is not None and channel.srt_port:
                self._open(self._ports.setdefault(channel.id, _ChannelPort(channel.srt_port, channel)))

    def _open(self, port: _ChannelPort) -> None:
        if port.listener is not None:
            return
        id = port.channel.id
        try:
            port.listener = self.bind(port.number, lambda _, address: self.push(port.channel, address))
        except ListenError as error:
            text = f"The SRT port of the channel cannot be opened ({error}): choose another one."
            if id not in self.findings or self.findings[id].text != text:
                log.warning("the SRT port of a channel cannot be opened", channel=id, reason=str(error))
                self.findings[id] = HealthFinding("srt_port", text, rfc3339(time.time()), str(port.number))
            return
        log.info("the SRT port of a channel is open", channel=id, port=port.number)
        self.findings.pop(id, None)
        self.opened.add(port.listener)
        self.reads.append(port.listener.read)

    def _close(self, port: _ChannelPort) -> None:
        self.findings.pop(port.channel.id, None)
        if port.listener is not None:
            log.info("the SRT port of a channel is closed", channel=port.channel.id, port=port.number)
            self.opened.remove(port.listener)
            self.reads.remove(port.listener.read)
