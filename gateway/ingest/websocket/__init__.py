"""Push over WebSocket: recordings of MediaRecorder and frames of WebCodecs.

The messages are in `gateway.protocols.push`. A worker process reads the recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gateway.channels.addresses import APP, Addresses
from gateway.channels.channel import Channel
from gateway.ingest.descriptor import ListenerDescriptor

if TYPE_CHECKING:
    from gateway.ingest.services import ListenerServices
    from gateway.listeners.port_listener import OpenListeners
    from gateway.outputs.services import OutputServices


def push_servers(addresses: Addresses) -> list[str]:
    """Returns the servers to which a browser can push: ws://host:8081, and the server over TLS if that port is open."""
    names = ["ws", "wss"] if addresses.ports["wss"] else ["ws"]
    return [addresses.server(name) for name in names]


def _url(addresses: Addresses, channel: Channel, tls: bool, fields: Mapping[str, str]) -> str:
    """Returns ws://host:8081/stream/<id>?sign=…; over TLS if that port has a certificate, or if TLS is needed."""
    secure = tls or channel.is_rtmps or addresses.ports.over_tls("ws")
    server = push_servers(addresses)[-1 if secure else 0]
    return f"{server}/{APP}/{channel.id}?{urlencode(fields)}"


def _addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    return {"wsUrl": _url(addresses, channel, tls, {"sign": channel.key})}


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.websocket.listener import open_websocket

    return open_websocket(services, outputs)


LISTENER = ListenerDescriptor(
    name="ws",
    open=_open,
    fields={"wsUrl": "The address for a browser to push to."},
    addresses=_addresses,
    url=_url,
    order=20,
)
