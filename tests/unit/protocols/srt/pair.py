"""Two connected ends of SRT on a simulated link, whose clock the test moves."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.protocols.srt import listening
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.connection import TICK_SECONDS, SrtConnection
from gateway.protocols.srt.listening import Conclusion, Cookies, conclusion_of
from tests.support.link_conditions import Conditions, Way

ADDRESS = ("192.0.2.1", 5000)


def shake_hands(
    *,
    latency: float = 0.12,
    passphrase: str = "",
    listener_passphrase: str | None = None,
    stream_id: str = "x",
    now: float = 100.0,
) -> tuple[Caller, SrtConnection, Conclusion]:
    """Returns a caller that has agreed, and the connection of the listener. Raises HandshakeRefused."""
    cookies = Cookies()
    caller = Caller(stream_id, latency, now, passphrase)
    answer = listening.answer_induction(caller.datagram, cookies.make(ADDRESS, now))
    assert answer is not None
    assert len(answer) <= len(caller.datagram)
    caller.receive(answer, now)
    conclusion = conclusion_of(caller.datagram, now)
    assert cookies.is_valid(conclusion.handshake.cookie, ADDRESS, now)
    wanted = passphrase if listener_passphrase is None else listener_passphrase
    agreement, answer = listening.accept(conclusion, latency, wanted, now)
    caller.receive(answer, now)
    return caller, SrtConnection(agreement, now), conclusion


def connect(*, latency: float = 0.12, passphrase: str = "", **conditions: float) -> Link:
    """Returns a connected pair. conditions: of the link between them, which has a delay of 20 ms if none is named."""
    caller, receiver, _ = shake_hands(latency=latency, passphrase=passphrase)
    assert caller.agreement is not None
    sender = SrtConnection(caller.agreement, 100.0)
    return Link(sender, receiver, Conditions(**{"delay": 20.0, **conditions}))  # type: ignore[arg-type]


@dataclass
class Link:
    """A link between a sender and a receiver. conditions: of both directions. They may change.

    delivered: payloads with the times of their delivery.
    """

    sender: SrtConnection
    receiver: SrtConnection
    conditions: Conditions
    now: float = 100.0
    delivered: list[tuple[float, bytes]] = field(default_factory=list)
    _flying: list[tuple[float, int, SrtConnection, bytes]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        seed = self.conditions.seed
        forth, back = (Way(self.conditions, random.Random(seed + way)) for way in (0, 1))
        self._ways = (self.sender, forth, self.receiver), (self.receiver, back, self.sender)
        self._began = self.now

    def _flush(self) -> None:
        for end, way, to in self._ways:
            out, end.out = end.out, []
            for packet in out:
                for at in way.arrivals(len(packet), self.now, self._began, ""):
                    self._count += 1
                    heapq.heappush(self._flying, (at, self._count, to, packet))

    def run(self, seconds: float, each_tick: Callable[[float], None] = lambda now: None) -> None:
        """Moves the clock, and everything that is due."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_SECONDS
            each_tick(self.now)
            self._flush()
            while self._flying and self._flying[0][0] <= self.now:
                at, _, to, packet = heapq.heappop(self._flying)
                to.receive((packet,), (at,))
                self._flush()
            for connection in (self.sender, self.receiver):
                connection.tick(self.now)
            self.delivered += [(self.now, payload) for payload in self.receiver.due(self.now)]
            self.sender.due(self.now)
            self._flush()
