"""SRT: the listener for pushes and players, and the media of a push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.ingest.descriptor import ListenerDescriptor

if TYPE_CHECKING:
    from gateway.ingest.services import ListenerServices
    from gateway.listeners.port_listener import OpenListeners
    from gateway.outputs.services import OutputServices


def _url(addresses: Addresses, channel: Channel, tls: bool, fields: Mapping[str, str]) -> str:
    """Returns the address. It has no `&` within the stream id, and no `%`, because ffmpeg and OBS decode neither."""
    if fields.keys() == {"sign"}:
        return f"{addresses.srt_server}?streamid=publish:{channel.id}?sign={fields['sign']}"
    pairs = ",".join(f"{name}={value}" for name, value in fields.items())
    return f"{addresses.srt_server}?streamid=#!::r={channel.id},m=publish,{pairs}"


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.srt.listener import open_srt

    return open_srt(services)


LISTENER = ListenerDescriptor(
    name="srt",
    open=_open,
    url=_url,
    order=20,
)
