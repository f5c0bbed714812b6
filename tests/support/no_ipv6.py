"""A machine without IPv6."""

import errno
import os
import socket
from typing import Any

import pytest


def remove_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets only the loopback of IPv4 exist. The name localhost has both of them, as in most containers."""
    real, loopbacks = socket.getaddrinfo, ("::1", "127.0.0.1")

    def find(host: str, *arguments: Any, **options: Any) -> list[Any]:
        hosts = loopbacks if host == "localhost" else (host,)
        return [found for each in hosts for found in real(each, *arguments, **options)]

    class WithoutIpv6(socket.socket):
        def bind(self, address: Any) -> None:
            if address[0] == "::1":
                raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            super().bind(address)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setattr(socket, "socket", WithoutIpv6)
