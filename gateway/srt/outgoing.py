"""Connections that we open: to a target of a relay, or to the source of a pull."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.lib.egress import Address
from gateway.lib.outgoing import os_error_text
from gateway.lib.tasks import Tasks
from gateway.listeners import datagrams
from gateway.listeners.udp_socket import UdpSocket
from gateway.ports.errors import OutputError
from gateway.protocols.srt.calling import REPEAT_SECONDS, Caller
from gateway.protocols.srt.connection import SrtConnection
from gateway.protocols.srt.crypto import ciphers_are_loaded, load_ciphers
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from gateway.protocols.srt.url import LatencyRange, SrtUrl
from gateway.srt.link import READ_DELAY, LinkTicker, SrtLink, SrtUser

_TEXTS: Final = {
    Reject.ROGUE: "incorrect data in the handshake",
    Reject.BAD_SECRET: "wrong passphrase",
    Reject.UNSECURE: "a passphrase is required, or not expected",
    Reject.BAD_REQUEST: "the stream id is malformed",
    Reject.UNAUTHORIZED: "the key is missing or wrong",
    Reject.OVERLOADED: "the server is full",
    Reject.FORBIDDEN: "the server forbids this",
    Reject.NOT_FOUND: "there is no such stream",
    Reject.CONFLICT: "the stream is in use",
}


@dataclass(slots=True, eq=False)
class _Call:
    """One attempt to open a connection. The socket belongs to it."""

    caller: Caller
    address: Address
    udp: UdpSocket = field(init=False)
    link: SrtLink | None = field(default=None, init=False)
    opened: asyncio.Future[None] = field(init=False)
    _answered: asyncio.Event = field(default_factory=asyncio.Event, init=False)  # a packet of the peer has come

    def __post_init__(self) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        opened = socket.socket(self.address.family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind(("", 0))
        self.udp = UdpSocket(opened, self._receive, lambda: self.link is not None, READ_DELAY, is_polled=True)
        self.udp.start()

    @property
    def peer(self) -> datagrams.Address:
        return (self.address.host, self.address.port)

    def send(self, packets: Sequence[bytes]) -> int:
        return self.udp.send(packets, self.peer)

    def _receive(
        self, udp: UdpSocket, address: datagrams.Address, packets: Sequence[bytes], arrivals: Sequence[float]
    ) -> bool:
        if tuple(address[:2]) != self.peer:
            return True  # of a stranger
        if self.link is not None:
            self.link.receive(packets, arrivals)
            return True
        if not self.opened.done():
            self._answered.set()
            try:
                self.caller.receive(packets[0], arrivals[0])
            except HandshakeRefused as error:
                text = _TEXTS.get(Reject(error.code), str(error)) if error.code in set(Reject) else str(error)
                self.opened.set_exception(OutputError(f"refused: {text} ({error.code})"))
            else:
                if self.caller.agreement is not None:
                    self.opened.set_result(None)
        return False

    async def open(self, seconds: float) -> None:
        """Repeats the packets of the handshake until the peer has agreed. Raises OutputError."""
        try:
            async with asyncio.timeout(seconds):
                while not self.opened.done():
                    self._answered.clear()
                    self.send((self.caller.datagram,))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(REPEAT_SECONDS):
                            await self._answered.wait()
                self.opened.result()
        except TimeoutError:
            raise OutputError("no answer to the handshake") from None


@contextlib.asynccontextmanager
async def open_link(
    url: SrtUrl, addresses: Sequence[Address], latency: LatencyRange, seconds: float, user: Callable[[SrtLink], SrtUser]
) -> AsyncIterator[SrtLink]:
    """Opens a connection to the first address that answers, and closes it at the end of the block.

    latency: what is granted, and what is wanted if the address has none. seconds: limit for all addresses.
    user: returns the user of the link.
    Raises OutputError, OSError.
    """
    wanted = (latency.least if url.latency is None else url.latency) / 1000
    if url.passphrase and not ciphers_are_loaded():
        await asyncio.to_thread(load_ciphers)
    call: _Call | None = None
    failure: OutputError | None = None
    for address in addresses:
        secret = url.passphrase, url.key_size
        caller = Caller(url.stream_id, wanted, time.monotonic(), *secret, latency.most / 1000)
        try:
            call = _Call(caller, address)
        except OSError as error:  # this machine has no IPv6, for example
            failure = OutputError(os_error_text(error))
            continue
        try:
            await call.open(seconds / len(addresses))
            break
        except OutputError as error:
            call.udp.close()
            call, failure = None, error
        except BaseException:
            call.udp.close()
            raise
    if call is None:
        raise failure or OutputError("the server has no address")
    ticker = LinkTicker()
    agreement = call.caller.agreement
    assert agreement is not None  # `open` has returned
    async with Tasks("srt link") as tasks:
        link = call.link = SrtLink(SrtConnection(agreement, time.monotonic()), call.send, url.host, ticker.remove)
        link.user = user(link)
        ticker.reads = (call.udp.read,)
        ticker.add(link)
        ticking = tasks.start(ticker.run(), "tick")
        try:
            yield link
        finally:
            link.close("closed")
            ticking.cancel()
            call.udp.close()
