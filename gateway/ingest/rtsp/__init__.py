"""RTSP and RTSPS: the listener for pushes and players, a connection's session, and the media of a push.

The messages themselves are in `gateway.protocols.rtsp` and do no I/O.
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
    return f"{addresses.rtsp_server}/{channel.id}?{urlencode(fields)}"


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.rtsp.listener import open_rtsp

    return open_rtsp(services)


LISTENER = ListenerDescriptor(
    name="rtsp",
    open=_open,
    url=_url,
    is_optional=True,
    order=25,
)
