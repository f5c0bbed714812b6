"""The sessions of SRT's listener: handshakes of callers, and the links of one address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import structlog

from gateway.lib.metric_table import MetricSample
from gateway.lib.tasks import Tasks
from gateway.listeners.datagrams import Address
from gateway.protocols.srt.connection import Agreement, SrtConnection
from gateway.protocols.srt.crypto import ciphers_are_loaded, load_ciphers
from gateway.protocols.srt.listening import (
    Conclusion,
    Cookies,
    HandshakeRefused,
    accept,
    answer_induction,
    conclusion_of,
    refuse,
)
from gateway.protocols.srt.packets import HEAD_SIZE, HandshakeType, Reject, SrtHandshake, handshake_of, restamped
from gateway.protocols.srt.stream_id import StreamId
from gateway.protocols.srt.url import LatencyRange
from gateway.srt.counters import SrtCounters
from gateway.srt.link import Direction, LinkTicker, Paths, SrtLink, SrtUser
from gateway.srt.passphrase_guesses import PassphraseGuesses

log = structlog.get_logger(__name__)

MAX_LINKS: Final = 16  # of one address and port
_NO_SOCKET: Final = bytes(4)


class SrtRequest(Protocol):
    """The request of a caller: to push or to play a stream."""

    @property
    def direction(self) -> Direction: ...

    async def check(self) -> str:
        """Checks its key. Returns the passphrase of the stream; "": none. Raises HandshakeRefused."""

    def refuse(self, reason: str) -> None:
        """Learns why the handshake is refused although its key is right. reason: a sentence for the owner."""

    async def begin(self, link: SrtLink) -> SrtUser:
        """Begins to push or to play. Raises HandshakeRefused."""

    def abandon(self) -> None:
        """Ends a request that did not become a link."""


# Returns the request of a caller who wants to play (stream id, address). Raises HandshakeRefused.
RequestSrtPlay: TypeAlias = Callable[[StreamId, str], SrtRequest]


# The same for any caller (stream id as it came, address). Raises HandshakeRefused.
RequestOfCaller: TypeAlias = Callable[[str, str], SrtRequest]


class SrtPeer(Protocol):
    """An address of a caller, as `UdpClient` or a group of addresses."""

    @property
    def address(self) -> str: ...

    def accept(self) -> None:
        """Notes that the caller has shown a valid key."""

    def send(self, datagrams: Sequence[bytes]) -> int: ...

    def close(self, reason: str) -> None:
        """Forgets the caller, which has no connection any more. A group stays for a while."""


@dataclass(slots=True, eq=False)
class SrtServer:
    """The connections of one process. Implements UdpProtocol.

    request(stream id, address): returns what a caller wants. Raises HandshakeRefused.
    """

    latency: LatencyRange
    request: RequestOfCaller
    tasks: Tasks
    guesses: PassphraseGuesses
    cookies: Cookies = field(default_factory=Cookies)
    ticker: LinkTicker = field(default_factory=LinkTicker)
    counters: SrtCounters = field(default_factory=SrtCounters)

    def opens(self, datagram: bytes, address: Address) -> bool:
        """Whether a datagram is a conclusion whose cookie was made for this address."""
        handshake = handshake_of(datagram)
        return handshake is not None and self.may_conclude(handshake, address)

    def may_conclude(self, handshake: SrtHandshake, address: Address) -> bool:
        is_conclusion = handshake.type == HandshakeType.CONCLUSION
        return is_conclusion and self.cookies.is_valid(handshake.cookie, address, time.monotonic())

    def answer(self, datagram: bytes, address: Address) -> bytes | None:
        """Returns the answer to an induction. It is as long as the induction, and nothing is kept."""
        return answer_induction(datagram, self.cookies.make(address, time.monotonic()))

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metrics."""
        return self.counters.samples(self.ticker)

    def session(self, client: SrtPeer, address: Address) -> SrtSession:
        return SrtSession(self, client, address)


class SrtSession:
    """The links of one caller's address. Implements UdpSession. paths: returns its paths, if it may have several."""

    def __init__(self, server: SrtServer, client: SrtPeer, address: Address, paths: Paths | None = None) -> None:
        self._server = server
        self._client = client
        self._address = address
        self._paths = paths
        self._links: dict[bytes, SrtLink] = {}  # by our socket's id, as it is in the packets
        # Answers to conclusions, and the time of their time stamp 0, by the id of the caller's socket.
        self._answers: dict[int, tuple[bytes, float]] = {}
        self._opening: dict[int, asyncio.Task[object]] = {}

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Gives datagrams to their links. Hot path."""
        socket = datagrams[0][12:16]
        link = self._links.get(socket)
        if link is not None and all(datagram[12:16] == socket for datagram in datagrams):
            link.receive(datagrams, arrivals)
            return
        for datagram, arrival in zip(datagrams, arrivals, strict=True):
            socket = datagram[12:16]
            link = self._links.get(socket)
            if link is not None:
                link.receive((datagram,), (arrival,))
            elif socket == _NO_SOCKET and len(datagram) > HEAD_SIZE:
                self._shake_hands(datagram, arrival)

    def tick(self, now: float) -> None:
        """Does nothing: the ticker calls the links."""

    def closed(self, reason: str) -> None:
        for task in self._opening.values():
            task.cancel()
        for link in tuple(self._links.values()):
            link.close(reason)

    @property
    def links(self) -> list[SrtLink]:
        return list(self._links.values())

    # ---- handshakes ----

    def _shake_hands(self, datagram: bytes, arrival: float) -> None:
        if (answer := self._server.answer(datagram, self._address)) is not None:
            self._client.send([answer])
            return
        handshake = handshake_of(datagram)
        if handshake is None or not self._server.may_conclude(handshake, self._address):
            return
        if handshake.socket in self._answers:
            self._answer(handshake.socket)  # our first answer was lost
        elif handshake.socket not in self._opening:
            self._conclude(handshake, datagram, arrival)

    def _conclude(self, handshake: SrtHandshake, datagram: bytes, arrival: float) -> None:
        try:
            if len(self._links) + len(self._opening) >= MAX_LINKS:
                raise HandshakeRefused(Reject.RESOURCE, "too many connections of one address and port")
            conclusion = conclusion_of(datagram, arrival)
            if not self._may_judge(conclusion, begins=False):
                self._close_if_unused("refused")
                return
            request = self._server.request(conclusion.stream_id, self._client.address)
        except HandshakeRefused as error:
            self._refuse(handshake, error)
            return
        name = f"srt {self._client.address}"
        self._opening[handshake.socket] = self._server.tasks.start(self._open(conclusion, request), name)

    async def _open(self, conclusion: Conclusion, request: SrtRequest) -> None:
        caller, link = conclusion.handshake.socket, None
        try:
            agreed = await self._judge(conclusion, request, await request.check())
            if agreed is None:
                return
            agreement, answer = agreed
            connection = SrtConnection(agreement, time.monotonic())
            link = SrtLink(connection, self._client.send, self._client.address, self._forget)
            link.paths, link.direction = self._paths, request.direction
            link.user = await request.begin(link)
        except HandshakeRefused as error:
            self._refuse(conclusion.handshake, error)
            return
        except Exception:
            self._refuse(conclusion.handshake, HandshakeRefused(Reject.UNKNOWN, "internal error"))
            raise
        finally:
            self._opening.pop(caller, None)
            if link is None or link.user is None:
                request.abandon()
                self._close_if_unused("refused")
        self._links[agreement.socket.to_bytes(4, "big")] = link
        self._answers[caller] = answer, agreement.began
        self._client.accept()
        self._answer(caller)
        self._server.ticker.add(link)

    async def _judge(
        self, conclusion: Conclusion, request: SrtRequest, passphrase: str
    ) -> tuple[Agreement, bytes] | None:
        """Returns what `_agree` returns, in turn. Tells the request of a refusal. Raises HandshakeRefused."""
        try:
            if not conclusion.key_material:
                return self._agree(conclusion, passphrase)
            async with self._server.guesses.turn:
                await (asyncio.sleep(0) if ciphers_are_loaded() else asyncio.to_thread(load_ciphers))
                return self._agree(conclusion, passphrase)
        except HandshakeRefused as error:
            request.refuse(str(error))
            raise

    def _agree(self, conclusion: Conclusion, passphrase: str) -> tuple[Agreement, bytes] | None:
        """Returns what `accept` returns; None if the caller gets no answer. Raises HandshakeRefused."""
        latency, now, guesses = self._server.latency, time.monotonic(), self._server.guesses
        guess = self._client.address, passphrase, conclusion.key_material
        guesses.check(*guess)
        if not self._may_judge(conclusion, begins=True):
            return None
        try:
            return accept(conclusion, latency.least / 1000, passphrase, now, latency.most / 1000)
        except HandshakeRefused as error:
            if error.code == Reject.BAD_SECRET:
                guesses.note_wrong(*guess, now)
            raise

    def _may_judge(self, conclusion: Conclusion, *, begins: bool) -> bool:
        """See `PassphraseGuesses.may_judge`. A handshake that may not gets no answer, so its caller repeats it."""
        address, now = self._client.address, time.monotonic()
        may = self._server.guesses.may_judge(address, conclusion.key_material, now, begins=begins)
        if not may:
            self._server.counters.refuse(Reject.BAD_SECRET)
        return may

    def _answer(self, caller: int) -> None:
        answer, began = self._answers[caller]
        self._client.send([restamped(answer, int((time.monotonic() - began) * 1e6))])

    def _refuse(self, handshake: SrtHandshake, error: HandshakeRefused) -> None:
        log.info("connection refused", protocol="srt", peer=self._client.address, code=error.code, reason=str(error))
        self._server.counters.refuse(error.code)
        self._client.send([refuse(handshake, error.code, 0)])
        if not self._opening:
            self._close_if_unused("refused")

    def _forget(self, link: SrtLink) -> None:
        agreement = link.connection.agreement
        self._server.ticker.remove(link)
        self._server.counters.close(link)
        self._links.pop(agreement.socket.to_bytes(4, "big"), None)
        self._answers.pop(agreement.peer_socket, None)
        self._close_if_unused("closed")

    def _close_if_unused(self, reason: str) -> None:
        if not self._links and not self._opening:
            self._client.close(reason)
