"""The listeners of RTMP and RTMPS."""

import ssl
from functools import partial

from gateway.ingest.rtmp.session import RtmpSession
from gateway.ingest.services import ListenerServices
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.tcp_listener import TcpListener


def open_rtmp(services: ListenerServices) -> OpenListeners:
    """Binds the ports of RTMP and RTMPS. Raises ListenError."""
    listeners = [RtmpListener(services, address.host, address.port, tls) for address, tls in services.addresses("rtmp")]
    return OpenListeners(listeners, services.tasks)


class RtmpListener(TcpListener):
    """One port of RTMP or RTMPS. A TLS handshake has the time limit of the RTMP handshake after it."""

    def __init__(self, services: ListenerServices, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        settings = services.settings
        super().__init__(
            services,
            ("rtmps" if tls is not None else "rtmp", host, port),
            tls,
            partial(RtmpSession, services),
            handshake=settings.limits.handshake,
            proxy_from=settings.rtmp.proxy_from,
        )
