"""UdpListener: clients by address, and the bounds for those that have not shown a key."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.lib.sockets import listen
from gateway.listeners.datagrams import Address
from gateway.listeners.pending_connections import PendingConnections
from gateway.listeners.udp_listener import UdpClient, UdpLimits, UdpListener
from gateway.protocols.errors import RemoteProtocolError


@dataclass
class Session:
    """Keeps what it gets. `key` is the valid key, `bad` ends the session, `big` asks for a long answer."""

    client: UdpClient
    got: list[bytes] = field(default_factory=list)
    ended: str = ""

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        self.got += datagrams
        if b"bad" in datagrams:
            raise RemoteProtocolError("a bad datagram")
        if b"key" in datagrams:
            self.client.accept()
        if b"big" in datagrams:
            self.client.send([bytes(500)])
        self.client.send([b"ok"])

    def tick(self, now: float) -> None:
        self.got.append(b"tick")

    def closed(self, reason: str) -> None:
        self.ended = reason


class Echo:
    """Opens a session with a datagram that begins with `o`. Answers `?…` with a cookie, and `!…` with too much."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def opens(self, datagram: bytes, address: Address) -> bool:
        return datagram.startswith(b"o")

    def answer(self, datagram: bytes, address: Address) -> bytes | None:
        answers = {b"?": f"{address[1]}".encode(), b"!": datagram + b"!"}
        return answers.get(datagram[:1])

    def session(self, client: UdpClient, address: Address) -> Session:
        self.sessions.append(Session(client))
        return self.sessions[-1]


@asynccontextmanager
async def listening(per_address: int = 0, max_bytes: int = 0) -> AsyncIterator[tuple[UdpListener, Echo]]:
    echo = Echo()
    limits = UdpLimits(PendingConnections(per_address, max_bytes), 5.0, 20.0)
    listener = UdpListener("srt", "127.0.0.1", 0, listen, echo, limits)
    await listener.start()
    try:
        yield listener, echo
    finally:
        listener.abort()
        while _CLIENTS:
            _CLIENTS.pop().close()


_CLIENTS: list[socket.socket] = []  # of this test


class Client:
    """A client with an address of its own."""

    def __init__(self, listener: UdpListener) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        _CLIENTS.append(self.socket)
        self.socket.setblocking(False)
        self.socket.connect(("127.0.0.1", listener.port))

    async def ask(self, *datagrams: bytes) -> bytes | None:
        """Sends datagrams. Returns the first answer; None if there is none."""
        for datagram in datagrams:
            self.socket.send(datagram)
        try:
            async with asyncio.timeout(0.3):
                return await asyncio.get_running_loop().sock_recv(self.socket, 2048)
        except TimeoutError:
            return None


async def test_each_address_has_a_session_that_gets_its_datagrams_in_order() -> None:
    async with listening() as (listener, echo):
        one, two = Client(listener), Client(listener)
        assert await one.ask(b"open", b"key", b"1", b"2") == b"ok"
        assert await two.ask(b"other") == b"ok"
        assert [session.got for session in echo.sessions] == [[b"open", b"key", b"1", b"2"], [b"other"]]
        assert (echo.sessions[0].client.is_accepted, echo.sessions[1].client.is_accepted) == (True, False)
        assert echo.sessions[0].client.port == one.socket.getsockname()[1]


async def test_a_datagram_that_opens_nothing_costs_no_session() -> None:
    async with listening() as (listener, echo):
        assert await Client(listener).ask(b"media") is None
        assert (echo.sessions, listener.connections) == ([], 0)


async def test_a_stranger_gets_an_answer_that_is_no_longer_than_its_datagram_and_costs_no_session() -> None:
    async with listening() as (listener, echo):
        client = Client(listener)
        assert await client.ask(b"?cookie") == str(client.socket.getsockname()[1]).encode()
        assert await client.ask(b"!") is None
        listener.close()
        assert await client.ask(b"?cookie") is None
        assert (echo.sessions, listener.connections) == ([], 0)


async def test_a_client_without_a_key_gets_no_more_bytes_than_came_from_it() -> None:
    async with listening() as (listener, echo):
        client = Client(listener)
        assert await client.ask(b"o", b"big") is None  # the answers are longer: its address may be forged
        assert await client.ask(b"key") == b"ok"
        assert len(echo.sessions) == 1


async def test_a_client_without_a_key_ends_in_time_and_a_silent_one_too() -> None:
    async with listening() as (listener, echo):
        one, two = Client(listener), Client(listener)
        await one.ask(b"open")
        await two.ask(b"open", b"key")
        late, accepted = echo.sessions
        for session in echo.sessions:
            session.client.tick(time.monotonic() + 6)
        assert late.ended == "no key in time"
        assert accepted.got[-1] == b"tick"
        accepted.client.tick(time.monotonic() + 21)
        assert accepted.ended == "nothing received for too long"
        assert listener.connections == 0


async def test_an_address_with_too_many_clients_loses_the_oldest_one_without_a_key() -> None:
    async with listening(per_address=2) as (listener, echo):
        clients = [Client(listener) for _ in range(3)]
        await clients[0].ask(b"open", b"key")
        for client in clients[1:]:
            await client.ask(b"open")
        assert [session.ended for session in echo.sessions] == ["", "", ""]
        await Client(listener).ask(b"open")
        assert [session.ended for session in echo.sessions] == ["", "too many clients", "", ""]


async def test_memory_for_clients_without_a_key_is_bounded() -> None:
    async with listening(max_bytes=12_000) as (listener, echo):
        for _ in range(5):
            await Client(listener).ask(b"open")
        assert listener.connections == 3
        echo.sessions[-1].client.hold(5_000)
        assert listener.connections < 3


async def test_a_protocol_error_ends_only_its_client() -> None:
    async with listening() as (listener, echo):
        one, two = Client(listener), Client(listener)
        await one.ask(b"open")
        await two.ask(b"open", b"key")
        await one.ask(b"bad")
        assert [session.ended for session in echo.sessions] == ["a bad datagram", ""]
        assert await two.ask(b"more") == b"ok"


async def test_after_close_known_clients_go_on_and_strangers_get_nothing() -> None:
    async with listening() as (listener, echo):
        client = Client(listener)
        await client.ask(b"open", b"key")
        listener.close()
        assert await Client(listener).ask(b"open") is None
        assert await client.ask(b"more") == b"ok"
        await listener.hang_up(1.0)
        assert echo.sessions[0].ended == "shutting down"


async def test_a_listener_that_never_started_closes_its_port() -> None:
    limits = UdpLimits(PendingConnections(), 5.0, 20.0)
    listener = UdpListener("srt", "127.0.0.1", 0, listen, Echo(), limits)
    listener.close()
    for opened in listen("srt", "127.0.0.1", listener.port, "udp"):
        opened.close()


async def test_a_process_passes_datagrams_of_earlier_clients_to_the_process_before_it() -> None:
    async with listening() as (old, old_echo), listening() as (new, new_echo):
        client = Client(old)
        await client.ask(b"open", b"key")
        old.pause_udp()
        address = client.socket.getsockname()
        new.older = lambda index, address, data: old.passed_on(index, address, data, 1.0)
        new._receive(new._udp[0], address, [b"media"], [1.0])
        assert old_echo.sessions[0].got[-1] == b"media"
        new._receive(new._udp[0], ("127.0.0.1", 9), [b"open"], [1.0])
        assert len(new_echo.sessions) == 1, "a new client is for the newer process"
        old.resume_udp()
        assert await client.ask(b"more") == b"ok"


@pytest.mark.parametrize("index", [0, 7])
async def test_a_passed_on_datagram_of_an_unknown_client_is_dropped(index: int) -> None:
    async with listening() as (listener, echo):
        listener.passed_on(index, ("127.0.0.1", 9), b"open", 1.0)
        assert (echo.sessions, listener.connections) == ([], 0)
