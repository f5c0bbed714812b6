"""The listeners of RTSP and RTSPS, and the UDP ports of this process."""

from __future__ import annotations

from functools import partial

import structlog

from gateway.ingest.rtsp.session import RtspSession
from gateway.ingest.rtsp.udp import RtspUdp
from gateway.ingest.services import ListenerServices
from gateway.lib.sockets import ListenError, listen_quietly
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.tcp_listener import TcpListener
from gateway.settings.models import RtspSettings
from gateway.settings.option_types import port_range

log = structlog.get_logger(__name__)


def open_rtsp(services: ListenerServices) -> OpenListeners:
    """Binds the ports of RTSP, RTSPS and UDP. Raises ListenError. Without UDP ports, all media go over TCP."""
    addresses = list(services.addresses("rtsp"))
    if not addresses:
        return OpenListeners((), services.tasks)
    udp = _open_udp(services.settings.rtsp)
    handshake = services.settings.limits.handshake
    listeners = [
        TcpListener(
            *(services, (address.name, address.host, address.port), tls),
            partial(RtspSession, services, None if tls is not None else udp),
            handshake=handshake,
        )
        for address, tls in addresses
    ]
    if udp is not None:
        udp.start()
    return OpenListeners(listeners, services.tasks, finish=udp.finish if udp is not None else None)


def _open_udp(settings: RtspSettings) -> RtspUdp | None:
    """Returns the first pair of ports that is free; None if there is none. Each process has a pair of its own."""
    if not settings.udp_ports:
        return None
    ports = port_range(settings.udp_ports)
    for port in ports[:-1:2]:
        try:
            rtp = listen_quietly("rtsp", settings.host, port, "udp")
        except ListenError:
            continue
        try:
            return RtspUdp(rtp, listen_quietly("rtsp", settings.host, port + 1, "udp"), port)
        except ListenError:
            for opened in rtp:
                opened.close()
    log.warning("no two UDP ports are free, so RTSP has no UDP", ports=settings.udp_ports)
    return None
