"""The description of an ingest protocol: each folder of `gateway.ingest` exports one, `LISTENER`.

Importing a descriptor must stay cheap, because every command reads all of them. `open` imports the listener itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel

if TYPE_CHECKING:
    from gateway.ingest.services import ListenerServices
    from gateway.listeners.port_listener import OpenListeners
    from gateway.outputs.services import OutputServices


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerDescriptor:
    """An ingest protocol as the gateway, its API and its commands use it.

    name: its settings section with host and port; also its port in the ports file, in logs and in the API.
    A protocol over TLS has a second section: this name with an s.
    open: binds its ports. It accepts connections only after the result's `start`. The output services start workers
    and relays.
    fields: names and descriptions of the channel fields in the API that contain addresses for publishers.
    addresses: returns these fields of a channel: (addresses, channel, tls). tls: whether the client uses TLS; a page
    over TLS can push only over TLS.
    url: returns the address to push to, for `pushUrls` in the API: (addresses, channel, tls, fields). fields: the key
    as `sign`, and the name of a backup as `input`. None: it has no address.
    is_optional: whether its port may be off. Then it has no address, either.
    protocol: its name in the metrics and in `pushUrls`, if that is another one.
    order: protocols are opened and closed from the lowest to the highest.
    """

    name: str
    open: Callable[[ListenerServices, OutputServices], OpenListeners]
    fields: Mapping[str, str] = field(default_factory=dict)
    addresses: Callable[[Addresses, Channel, bool], Mapping[str, str]] = lambda addresses, channel, tls: {}
    url: Callable[[Addresses, Channel, bool, Mapping[str, str]], str] | None = None
    is_optional: bool = False
    protocol: str = ""
    order: int = 100
