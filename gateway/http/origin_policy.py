"""Decides which web pages may open a WebSocket to push, and reads the hosts of Origin and Host headers."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PORTS = {"http": 80, "https": 443}


class OriginPolicy:
    """The origins of pages that may open a WebSocket to push.

    allowed: origins such as https://studio.example.com, or "*". If empty: pages of the requested host.
    RFC 6454 §7: browsers send the origin of a page, and pages cannot forge it. A request without Origin is not from a
    page.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        entries = tuple(allowed)
        self._any = "*" in entries
        self._allowed = frozenset(_normal_origin(entry) for entry in entries)

    def allows(self, origins: list[str], hosts: list[str]) -> bool:
        """Whether a request with these Origin and Host headers may push. Repeated headers are malformed."""
        if not origins:
            return True
        if len(origins) > 1 or len(hosts) > 1:
            return False
        if self._any:
            return True
        if self._allowed:
            return _normal_origin(origins[0]) in self._allowed
        page = host_name(origins[0]).rstrip(".")
        return bool(page) and bool(hosts) and page == host_name(f"http://{hosts[0]}").rstrip(".")


def _normal_origin(origin: str) -> str:
    """Returns an origin in its normal form: lower case, without the default port of its scheme."""
    try:
        parts = urlsplit(origin.strip().lower())
        if not parts.hostname:
            return origin.strip().lower()  # "null" of sandboxed pages is allowed if it is listed
        port = parts.port
    except ValueError:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, _PORTS.get(parts.scheme)) else f":{port}")


def host_name(address: str) -> str:
    """Returns the host of an origin or another address, in lower case and without its port; "" if it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def hostname(header: str) -> str:
    """Returns the host of a Host header without its port; "" if it is not a host name."""
    host = host_name(f"//{header}")
    return host if is_host(host) else ""


def is_host(text: str) -> bool:
    """Whether the text is a host name or an address, IPv6 without brackets.

    Refuses characters that would end the host in an address or in a list.
    """
    return _HOST.fullmatch(text) is not None
