"""Two connected ends of SRT on a simulated link, whose clock the test moves."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.protocols.srt import listening
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.connection import TICK_SECONDS, SrtConnection
from gateway.protocols.srt.listening import Conclusion, Cookies, conclusion_of

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


@dataclass
class Link:
    """A link between a sender and a receiver. loss: share of lost packets, of both directions. delay: one way, seconds.

    jitter: of the delay, seconds. delivered: payloads with the times of their delivery.
    """

    sender: SrtConnection
    receiver: SrtConnection
    loss: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0
    seed: int = 1
    now: float = 100.0
    duplicates: float = 0.0
    delivered: list[tuple[float, bytes]] = field(default_factory=list)
    _flying: list[tuple[float, int, bool, bytes]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def _carry(self, packets: Sequence[bytes], to_receiver: bool) -> None:
        for packet in packets:
            for _ in range(2 if self._random.random() < self.duplicates else 1):
                if self._random.random() >= self.loss:
                    self._count += 1
                    at = self.now + self.delay + self._random.random() * self.jitter
                    heapq.heappush(self._flying, (at, self._count, to_receiver, packet))

    def _flush(self) -> None:
        for end, to_receiver in ((self.sender, True), (self.receiver, False)):
            out, end.out = end.out, []
            self._carry(out, to_receiver)

    def run(self, seconds: float, each_tick: Callable[[float], None] = lambda now: None) -> None:
        """Moves the clock, and everything that is due."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_SECONDS
            each_tick(self.now)
            self._flush()
            while self._flying and self._flying[0][0] <= self.now:
                at, _, to_receiver, packet = heapq.heappop(self._flying)
                (self.receiver if to_receiver else self.sender).receive((packet,), (at,))
                self._flush()
            for connection in (self.sender, self.receiver):
                connection.tick(self.now)
            self.delivered += [(self.now, payload) for payload in self.receiver.due(self.now)]
            self.sender.due(self.now)
            self._flush()
