"""Hides those parts of option values that may be secret, before they are displayed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_MASK: Final = "***"
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)(.*)", re.S)
_HOST: Final = re.compile(r"(?:[^:\s]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# A password may contain any character, also a slash that ends the address for a parser. So the last "@" counts.
_USER: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/{1,2})?[^\s,]*@")
_QUERY: Final = re.compile(r"(://[^\s,?]*\?)[^\s,]+")


def without_secrets(name: str, value: Any) -> Any:
    """Returns the value of an option for display, also of an invalid one. name: of the option."""
    if isinstance(value, list | tuple):
        return type(value)(without_secrets(name, entry) for entry in value)
    if isinstance(value, Mapping):
        return {key: without_secrets(name, entry) for key, entry in value.items()}
    if not isinstance(value, str):
        return value
    if name == "hooks.url":  # receivers put a token into the path
        return _origin(value)
    if name == "webrtc.ice_servers":  # turn:host:port <user> <password>
        server, space, _ = value.partition(" ")
        value = f"{server} {_MASK}" if space else server
    if ":" in value.partition("@")[0]:  # not the mail address of a user
        value = _USER.sub(rf"\1{_MASK}@", value)
    return _QUERY.sub(rf"\1{_MASK}", value)


def _origin(address: str) -> str:
    """Returns scheme and host, as far as they are certain."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return _MASK if address else ""
    scheme, authority, path = match.groups()
    user, at, host = authority.rpartition("@")
    if "@" in path or (host and not _HOST.fullmatch(host)):
        return f"{scheme}{_MASK}"
    return f"{scheme}{_MASK if user else ''}{at}{host}{f'/{_MASK}' if path not in ('', '/') else path}"
