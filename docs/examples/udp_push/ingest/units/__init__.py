"""Push of units over UDP, the example of docs/extending.md."""

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
    return f"{addresses.server('units')}/{channel.id}?{urlencode(fields)}"


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.units.listener import open_units

    return open_units(services)


LISTENER = ListenerDescriptor(name="units", open=_open, url=_url)
