"""Push over WebRTC by WHIP (RFC 9725): OBS, browsers, GStreamer, ffmpeg. The port belongs to `gateway.webrtc`."""

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
    return f"{addresses.pull}/{channel.id}/whip?{urlencode(fields)}"


def _addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    """Returns the address with the sign; and the two fields of OBS, which sends the key as a bearer token."""
    url = _url(addresses, channel, tls, {"sign": channel.key})
    return {"whipUrl": url, "whipServer": f"{addresses.pull}/whip"}


def _open(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    from gateway.ingest.webrtc.whip import open_whip

    return open_whip(services, outputs.workers)


LISTENER = ListenerDescriptor(
    name="webrtc",
    protocol="whip",
    open=_open,
    fields={
        "whipUrl": "The address to push to over WebRTC (WHIP).",
        "whipServer": "The WHIP server for OBS; its bearer token is `obsKey`.",
    },
    addresses=_addresses,
    url=_url,
    order=30,
)
