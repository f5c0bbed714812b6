"""Push of units over UDP, the example of docs/extending.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.ingest.descriptor import ListenerDescriptor

if TYPE_CHECKING:
    from gateway.ingest.services import ListenerServices
    from gateway.listeners.port_listener import OpenListeners
    from gateway.outputs.services import OutputServices


def _addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    return {"unitsUrl": f"{addresses.server('units')}/{channel.id}?sign={channel.key}"}


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.units.listener import open_units

    return open_units(services)


LISTENER = ListenerDescriptor(
    name="units", open=_open, fields={"unitsUrl": "The address to push units to over UDP."}, addresses=_addresses
)
