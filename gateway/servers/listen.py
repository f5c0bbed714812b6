"""Listening sockets and TLS contexts, with one clear line for what stands in the way."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import TypeAlias

BACKLOG = 4096
# What the kernel takes of a connection's unsent bytes: little lies there for a stalled viewer, enough for full speed.
UNSENT = 128 * 1024
_TRIES = 16  # for one free port on every address of a name


class ListenError(Exception):
    """A listener cannot be opened; the message is one line for the operator, such as `http: 0.0.0.0:8080 is in use`."""


Opener: TypeAlias = Callable[[str, str, int], list[socket.socket]]  # as `listen`


class _Sharing(Enum):
    """Whether other sockets may have the same port: none; those that join the first; these are such."""

    NONE = auto()
    FIRST = auto()
    JOINED = auto()


def listen(name: str, host: str, port: int) -> list[socket.socket]:
    """Listening TCP sockets on every address of `host`, all on one port; port 0: any free one. Raises ListenError.

    name: of the listener, for the message. Accepted sockets inherit TCP_NODELAY and the bound of unsent bytes. `::`
    takes IPv4 too.
    """
    return _listen(name, host, port, _Sharing.NONE)


def listen_shared(name: str, host: str, port: int, count: int) -> list[list[socket.socket]]:
    """`count` times what `listen` gives, all on the same port: the kernel spreads connections over them, and what waits
    for one of them goes to no other."""
    shares: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            shares.append(_listen(name, host, port, _Sharing.JOINED if shares else _Sharing.FIRST))
            port = port_of(shares[0])
    except BaseException:
        for opened in (one for share in shares for one in share):
            opened.close()
        raise
    return shares


def _listen(name: str, host: str, port: int, sharing: _Sharing) -> list[socket.socket]:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"{name}: {where}: {error.strerror or error}") from None
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for attempt in range(1, _TRIES + 1):
        sockets: list[socket.socket] = []
        try:
            chosen = port
            for family, address in addresses:
                sockets.append(_open(family, (address[0], chosen, *address[2:]), sharing))
                chosen = port_of(sockets)
        except OSError as error:
            for opened in sockets:
                opened.close()
            if error.errno == errno.EADDRINUSE and port == 0 and attempt < _TRIES:
                continue  # free on one address, taken on another
            raise ListenError(f"{name}: {where} {_words(error)}") from None
        except BaseException:
            for opened in sockets:
                opened.close()
            raise
        return sockets
    raise AssertionError("the last try returns or raises")


def port_of(sockets: list[socket.socket]) -> int:
    """The port that `listen` got."""
    return int(sockets[0].getsockname()[1])


def tls_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """A server's context from PEM files (key: None where it stands in the certificate's file). Raises ListenError."""
    for what, path in (("tls.cert", cert), ("tls.key", key)):
        if path is not None:
            try:
                path.read_bytes()
            except OSError as error:
                raise ListenError(f"{what}: {path}: {error.strerror or error}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a passphrase must not stop the start with a question on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or "not a usable certificate"
        raise ListenError(f"tls.cert: {cert}: {str(reason).replace('_', ' ').lower()}") from None
    return context


def _open(family: int, address: tuple[object, ...], sharing: _Sharing) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        if os.name == "posix":  # elsewhere this lets two processes have one port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sharing is _Sharing.JOINED:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):  # saves memory where the kernel knows it
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        opened.bind(address)
        if sharing is _Sharing.FIRST:  # only now: another program of this user that shares its port would let us in
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _words(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use"
    if error.errno == errno.EACCES:
        return "needs more rights (ports below 1024 are the system's)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is no address of this machine"
    return f"cannot be opened: {error.strerror or error}"
