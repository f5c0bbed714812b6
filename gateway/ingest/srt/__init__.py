"""SRT: the listener for pushes and players, and the media of a push."""

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
    return {"srtUrl": f"{addresses.server('srt')}?streamid=publish:{channel.id}?sign={channel.key}"}


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.srt.listener import open_srt

    return open_srt(services, outputs.workers)


LISTENER = ListenerDescriptor(
    name="srt",
    open=_open,
    fields={"srtUrl": "The address to push to over SRT."},
    addresses=_addresses,
    order=20,
)
