"""RTMP and RTMPS: the listener, a connection's session, and its media.

The wire format itself is in `gateway.protocols.rtmp` and does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.ingest.descriptor import ListenerDescriptor

if TYPE_CHECKING:
    from gateway.ingest.services import ListenerServices
    from gateway.listeners.port_listener import OpenListeners
    from gateway.outputs.services import OutputServices


def _url(addresses: Addresses, channel: Channel, tls: bool, fields: Mapping[str, str]) -> str:
    return f"{addresses.rtmp_server(channel)}/{channel.id}?{urlencode(fields)}"


def _addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    server, key = addresses.rtmp_server(channel), f"{channel.id}?sign={channel.key}"
    return {"pushUrl": f"{server}/{key}", "obsServer": server, "obsKey": key}


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.rtmp.listener import open_rtmp

    return open_rtmp(services)


LISTENER = ListenerDescriptor(
    name="rtmp",
    open=_open,
    fields={"pushUrl": "The address for ffmpeg to push to.", "obsServer": "OBS: Server.", "obsKey": "OBS: Stream Key."},
    addresses=_addresses,
    url=_url,
    order=10,
)
