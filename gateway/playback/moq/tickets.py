"""Tickets: texts with which a page that was checked over HTTP opens its session over QUIC."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from gateway.lib.numbers import read_integer

_SECONDS: Final = 30
_MAX_BYTES: Final = 400


def make_ticket(key: bytes, name: str, address: str, now: float) -> str:
    """Returns the ticket of a viewer. address: "" for one whose address is not limited. now: seconds since 1970."""
    expires = int(now) + _SECONDS
    client = urlsafe_b64encode(address.encode()).decode().rstrip("=")
    return f"{expires}.{client}.{_seal(key, name, address, expires)}"


def read_ticket(key: bytes, name: str, ticket: str, now: float) -> str | None:
    """Returns the address of the viewer; None if the ticket is not valid for this stream now."""
    parts = ticket.split(".")
    if len(ticket) > _MAX_BYTES or len(parts) != 3:
        return None
    expires, client, seal = parts
    until = read_integer(expires, 2**40)
    try:
        address = urlsafe_b64decode(client + "=" * (-len(client) % 4)).decode()
    except ValueError:
        return None
    if (
        until is None
        or until < now
        or not hmac.compare_digest(_seal(key, name, address, until).encode(), seal.encode())
    ):
        return None
    return address


def _seal(key: bytes, name: str, address: str, expires: int) -> str:
    return hmac.new(key, f"{name}\n{address}\n{expires}".encode(), hashlib.sha256).hexdigest()
