"""How an ingest protocol describes itself: each folder of `gateway.ingest` exports one `LISTENER`.

Importing a descriptor must stay cheap: every command reads all of them. `open` imports the listener itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel

if TYPE_CHECKING:
    from gateway.ingest.open_listeners import OpenListeners
    from gateway.ingest.services import ListenerServices
    from gateway.outputs.services import OutputServices


def _no_addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerDescriptor:
    """Everything that the gateway, its API and its commands know of an ingest protocol.

    name: of its settings section with host and port, and of its port in the ports file, in logs and in the API. The
    section of its port over TLS, if it has one, has the same name and an s.
    open: binds its ports. Accepts nothing before the result's `start`. The output services start workers and relays.
    fields: the fields of a channel's answer with the addresses for publishers, and their descriptions.
    addresses: gives these fields for a channel. tls: whether the client uses TLS, which a page over TLS needs.
    order: protocols are opened from the lowest, and closed in the same order.
    """

    name: str
    open: Callable[[ListenerServices, OutputServices], OpenListeners]
    fields: Mapping[str, str] = field(default_factory=dict)
    addresses: Callable[[Addresses, Channel, bool], Mapping[str, str]] = _no_addresses
    order: int = 100
