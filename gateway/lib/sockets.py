"""Opens listening sockets and accepts TLS connections. Errors are one clear line for the operator."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Final, Literal, Protocol, TypeAlias

import structlog

from gateway.lib.counted_tls import CountedTls
from gateway.lib.network import url_host
from gateway.lib.port_owner import port_in_use_text
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

BACKLOG = 4096
# Limit of unsent bytes of a connection in the kernel. It keeps a stalled viewer cheap, but allows full speed.
UNSENT = 128 * 1024
_MAX_ATTEMPTS = 16  # attempts to find one port that is free on every address of a name
_MAX_HANDSHAKE_SECONDS: Final = 60.0
_OUT_OF_FILES_SECONDS: Final = 0.1  # pause before the next accept if no file descriptor is left


# The default ports that may be replaced, by listener, because several gateways may run on one machine.
MOVABLE_PORTS: Final = {"srt": 8890, "srtla": 5000}


class ListenError(Exception):
    """A listener cannot be opened. The message is one line: `http: 0.0.0.0:8080 is in use by Millrace, pid 7; …`."""


Transport: TypeAlias = Literal["tcp", "udp"]
# Returns the context for a connection of an authority; None for a client. Raises OSError to close the connection.
ChallengeContexts: TypeAlias = Callable[[socket.socket], Awaitable[ssl.SSLContext | None]]
_KINDS: Final[dict[Transport, socket.SocketKind]] = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Opener(Protocol):
    """Opens the sockets of a listener, like `listen`."""

    def __call__(self, name: str, host: str, port: int, transport: Transport = "tcp") -> list[socket.socket]: ...


class _Sharing(Enum):
    """Whether several sockets share a port. FIRST: other sockets may join it later. JOINED: it joins the first one."""

    NONE = auto()
    FIRST = auto()
    JOINED = auto()


def listen(name: str, host: str, port: int, transport: Transport = "tcp") -> list[socket.socket]:
    """Returns listening TCP sockets or bound UDP sockets on every address of `host`, all on one port.

    Raises ListenError.

    name: of the listener, for error messages.
    port: 0 means any free port.
    Accepted sockets inherit TCP_NODELAY and the limit of unsent bytes. `::` also accepts IPv4.
    """
    return _or_any_port(name, port, lambda port: _listen(name, host, port, transport, _Sharing.NONE))


def listen_quietly(name: str, host: str, port: int, transport: Transport = "tcp") -> list[socket.socket]:
    """Does the same as `listen`, without a search for the program that has the port, which would block the loop."""
    return _listen(name, host, port, transport, _Sharing.NONE, names_owner=False)


def listen_shared(
    name: str, host: str, port: int, count: int, transport: Transport = "tcp"
) -> list[list[socket.socket]]:
    """Returns `count` results of `listen`, all on one port.

    The kernel distributes connections to them. A connection that waits at one of them does not move to another.
    All datagrams of one address of a client reach the same UDP socket, until one of the sockets is closed. The
    kernel chooses the socket by a hash of the addresses and by the number of sockets.
    """
    results: list[list[socket.socket]] = []
    # This socket only finds a free port. A socket bound to port 0 loses its port when it stops listening.
    first = _or_any_port(name, port, lambda port: _listen(name, host, port, transport, _Sharing.FIRST))
    try:
        results.extend(_listen(name, host, port_of(first), transport, _Sharing.JOINED) for _ in range(count))
    except BaseException:
        _close_all(opened for result in results for opened in result)
        raise
    finally:
        _close_all(first)
    return results


def _or_any_port(name: str, port: int, open_port: Callable[[int], list[socket.socket]]) -> list[socket.socket]:
    """Opens a port. If a default port of SRT is in use, any free one is opened, with a warning. Raises ListenError."""
    try:
        return open_port(port)
    except ListenError as error:
        if port != MOVABLE_PORTS.get(name):
            raise
        opened = open_port(0)
        log.warning(
            "the default port is in use, so another one is open", listener=name, port=port_of(opened), reason=str(error)
        )
        return opened


def _listen(
    name: str, host: str, port: int, transport: Transport, sharing: _Sharing, *, names_owner: bool = True
) -> list[socket.socket]:
    address_text = f"{url_host(host)}:{port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=_KINDS[transport], flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"{name}: {address_text}: {error.strerror or error}") from None
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        sockets: list[socket.socket] = []
        try:
            chosen = port
            for family, address in addresses:
                try:
                    sockets.append(_open(family, (address[0], chosen, *address[2:]), transport, sharing))
                except OSError as error:
                    if len(addresses) == 1 or not is_absent(address[0], error):
                        raise
                    continue
                chosen = port_of(sockets)
        except OSError as error:
            _close_all(sockets)
            if error.errno == errno.EADDRINUSE and port == 0 and attempt < _MAX_ATTEMPTS:
                continue  # the port is free on one address and in use on another
            if error.errno == errno.EADDRINUSE and names_owner:
                raise ListenError(f"{name}: {port_in_use_text(name, port, host, transport=transport)}") from None
            raise ListenError(f"{name}: {address_text} {_reason(error)}") from None
        except BaseException:
            _close_all(sockets)
            raise
        return sockets
    raise AssertionError("the last attempt returns or raises")


def is_absent(address: object, error: OSError) -> bool:
    """Whether this is the IPv6 loopback of a machine without IPv6. In most containers, localhost is this one, too."""
    return address == "::1" and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for opened in sockets:
        opened.close()


def port_of(sockets: list[socket.socket]) -> int:
    """Returns the port of sockets that `listen` opened."""
    return int(sockets[0].getsockname()[1])


async def accept_tls(
    listening: socket.socket,
    tls: ssl.SSLContext,
    seconds: float,
    accept: Callable[[str], asyncio.BaseProtocol | None],
    tasks: Tasks,
    challenges: ChallengeContexts | None = None,
) -> None:
    """Accepts TLS connections until it is cancelled, then closes the socket.

    seconds: limit of a handshake; 0: one minute.
    accept: called with the address before the handshake. It returns the protocol to connect after the handshake, or
        None to refuse the connection. If the handshake fails, the protocol gets `connection_lost` without
        `connection_made`.
    challenges: returns the context for a handshake with which an authority checks this server; it carries no data.

    The servers of asyncio report a connection only after its handshake. So with them, clients could open any number.
    """
    loop = asyncio.get_running_loop()
    seconds = min(seconds or _MAX_HANDSHAKE_SECONDS, _MAX_HANDSHAKE_SECONDS)
    try:
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("accept failed", reason=str(error))
                await asyncio.sleep(_OUT_OF_FILES_SECONDS)
                continue
            connection.setblocking(False)
            protocol = accept(peer[0])
            if protocol is None:
                connection.close()
            else:
                tasks.start(_handshake(connection, protocol, tls, seconds, challenges), "handshake")
    finally:
        listening.close()


async def _handshake(
    connection: socket.socket,
    protocol: asyncio.BaseProtocol,
    tls: ssl.SSLContext,
    seconds: float,
    challenges: ChallengeContexts | None,
) -> None:
    loop = asyncio.get_running_loop()
    connected = False
    try:
        challenge: ssl.SSLContext | None = None
        if challenges is not None:
            async with asyncio.timeout(seconds):
                challenge = await challenges(connection)
        if challenge is not None:
            await loop.connect_accepted_socket(_Closed, connection, ssl=challenge, ssl_handshake_timeout=seconds)
        else:
            below = CountedTls(protocol, tls, seconds)
            transport, _ = await loop.connect_accepted_socket(lambda: below, connection)
            try:
                await below.handshake
                connected = True
            finally:
                if not connected:
                    transport.abort()
    except OSError:  # the client disconnected, did not send TLS, or was too slow
        log.debug("no TLS handshake")
    finally:
        if not connected:
            connection.close()
            protocol.connection_lost(None)


class _Closed(asyncio.Protocol):
    """Closes the connection after its handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _open(family: int, address: tuple[object, ...], transport: Transport, sharing: _Sharing) -> socket.socket:
    opened = socket.socket(family, _KINDS[transport])
    try:
        opened.setblocking(False)
        # On other systems, this option would let two processes open one port. For UDP, it would do so on all systems.
        if os.name == "posix" and transport == "tcp":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sharing is _Sharing.JOINED:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        if transport == "tcp":
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit_unsent(opened)
        opened.bind(address)
        if sharing is _Sharing.FIRST:  # after bind, which else would accept a shared port of another program
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if transport == "tcp":
            opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def limit_unsent(opened: socket.socket) -> None:
    """Sets UNSENT, if the kernel supports it. Otherwise up to 4 MB wait there, in which nothing can be dropped."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def _reason(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return (
            "needs more rights (ports below 1024 are the system's): give the program the capability "
            "CAP_NET_BIND_SERVICE (docs/operations.md, TLS) or choose another port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine"
    return f"cannot be opened: {error.strerror or error}"
