"""Finds the ingest protocols: the folders next to this file."""

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from gateway import ingest as folder
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.ingest.descriptor import ListenerDescriptor


@functools.cache
def all_listeners() -> tuple[ListenerDescriptor, ...]:
    """Returns all ingest protocols, in the order in which they are opened."""
    packages = [info.name for info in pkgutil.iter_modules(folder.__path__) if info.ispkg]
    listeners = [importlib.import_module(f"{folder.__name__}.{name}").LISTENER for name in packages]
    return tuple(sorted(listeners, key=lambda listener: (listener.order, listener.name)))


def push_addresses(addresses: Addresses, channel: Channel, tls: bool) -> dict[str, str]:
    """Returns the addresses for publishers of a channel, by API field. tls: whether the client uses TLS."""
    found: dict[str, str] = {}
    for listener in all_listeners():
        found |= listener.addresses(addresses, channel, tls)
    return found


def push_urls(addresses: Addresses, channel: Channel, tls: bool, fields: Mapping[str, str]) -> dict[str, str]:
    """Returns the address to push to, by protocol. fields: the key as `sign`, and the name of a backup as `input`."""
    return {
        listener.protocol or listener.name: listener.url(addresses, channel, tls, fields)
        for listener in all_listeners()
        if listener.url is not None and not (listener.is_optional and addresses.ports[listener.name] is None)
    }
