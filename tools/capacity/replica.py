"""A replica of the simulation: one pull of a stream by an edge, as the gateway's Replicas do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tools.capacity.agenda import Agenda
from tools.capacity.policy import Policy
from tools.capacity.reader import Answer
from tools.capacity.registry import Held

if TYPE_CHECKING:
    from tools.capacity.fleet import Edge, Gateway

AGAIN = 0.25  # after a holder that failed, and while players of a broken pull wait


class Holders(Protocol):
    """Where holders are found."""

    def gateway(self, id: int) -> Gateway: ...


class Replica:
    """Looks for the holder, pulls, begins again where that breaks, ends when nobody plays. live: pictures arrive.

    waiting: who came before the pictures, as the moments at which they asked. broken: since when players have none.
    """

    def __init__(
        self,
        channel: int,
        edge: Edge,
        holders: Holders,
        agenda: Agenda,
        policy: Policy,
        hop: float,
        opened: Callable[[Replica], None],
    ) -> None:
        """opened: told each time that pictures begin to arrive."""
        self.channel = channel
        self.edge = edge
        self.live = False
        self.waiting: list[float] = []
        self.broken: float | None = None
        self._holders = holders
        self._agenda = agenda
        self._policy = policy
        self._hop = hop
        self._opened = opened
        self._holder: Gateway | None = None
        self._ended = False
        self._idle = False
        self._was_live = False

    def begin(self) -> None:
        if not self._ended and self.edge.alive:
            self.edge.reader.find(self.channel, self._found)

    def at_once(self, holder: Gateway) -> None:
        """It has been there since before the simulation began."""
        self._link(holder)

    def cut(self, since: float) -> None:
        """The link broke; since when no pictures came."""
        self._let_go()
        if self.broken is None:
            self.broken = since
        if self._holder is not None:
            held = Held(self._holder.id, self._claim)
            self._holder = None
            self.edge.reader.lost(self.channel, held)
        self.begin()

    def left_alone(self) -> None:
        """The last player went."""
        if self._idle or self._ended:
            return
        self._idle = True
        self._agenda.after(self._policy.idle, self._end_if_idle)

    def end(self) -> None:
        """Nobody plays it any more."""
        self._let_go()
        self._ended = True
        if self.edge.replicas.get(self.channel) is self:
            del self.edge.replicas[self.channel]

    def _end_if_idle(self) -> None:
        self._idle = False
        audience = self.edge.audiences.get(self.channel)
        if not self._ended and (audience is None or not audience.viewers):
            self.end()

    def _found(self, answer: Answer) -> None:
        if self._ended or not self.edge.alive:
            return
        if not isinstance(answer, Held):
            self._agenda.after(AGAIN if self._was_live else self._policy.look_again, self.begin)
            return
        holder = self._holders.gateway(answer.node)
        if holder.alive and holder.held.get(self.channel) == answer.claim:
            self._agenda.after(3 * self._hop, lambda: self._linked(holder, answer))
            return
        pause = self._policy.connect if holder.silent else self._hop

        def failed() -> None:
            self.edge.reader.lost(self.channel, answer)
            self._agenda.after(AGAIN, self.begin)

        self._agenda.after(pause, failed)

    def _linked(self, holder: Gateway, held: Held) -> None:
        if self._ended or not self.edge.alive:
            return
        if not holder.alive or holder.held.get(self.channel) != held.claim:
            self.edge.reader.lost(self.channel, held)
            self._agenda.after(AGAIN, self.begin)
            return
        self._link(holder)
        self._opened(self)

    def _link(self, holder: Gateway) -> None:
        self._holder = holder
        self._claim = holder.held[self.channel]
        holder.links[self] = None
        self.live = self._was_live = True

    def _let_go(self) -> None:
        self.live = False
        if self._holder is not None:
            self._holder.links.pop(self, None)
