"""Judges whether a request comes from a node of this cluster."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.refusals import Refusals
from gateway.ports.cluster_secret import ClusterSecret
from gateway.protocols import nodes

log = structlog.get_logger(__name__)

_SAY_SECONDS: Final = 10.0
_UNSIGNED: Final = text(401, "not signed with the secret of this cluster")


class NodeAuthenticator:
    """Verifies signatures. False where no secret is set. Counter: `refused` by reason."""

    def __init__(
        self, secret: str | ClusterSecret, refusals_per_minute: int = 0, clocks: Clocks = SYSTEM_CLOCKS
    ) -> None:
        """refusals_per_minute: of an address, beyond which wrong signatures get 429; 0: any number."""
        self._secret = ClusterSecret.of(secret)
        self._refusals = Refusals(refusals_per_minute)
        self._clock = clocks.wall
        self._monotonic = clocks.monotonic
        self._said = -_SAY_SECONDS  # monotonic: when a refusal was logged last
        self.refused: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._secret)

    def wrong(self, request: Request) -> str:
        """Returns "" if the signature is good, else the reason: missing, wrong or skew."""
        given = request.headers.get(nodes.HEADER, "")
        if not given:
            return "missing"
        return self._secret.verify(request.method, target_of(request), given, self._clock())

    def refuse(self, request: Request, wrong: str) -> Response:
        """Answers 401, or 429 beyond the limit of the address.

        A node whose clock is wrong does not count: it knows the secret, and signs again with the Date of this answer.
        """
        now = self._monotonic()
        seconds = self._refusals.add(request.peer, now) if wrong != "skew" else 0
        reason = "limited" if seconds else wrong
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if now - self._said >= _SAY_SECONDS:
            # Anybody may send any number of requests. One line every _SAY_SECONDS is enough to notice a wrong secret.
            self._said = now
            log.warning("node refused", peer=request.peer, path=request.path[:200], reason=wrong)
        return service_unavailable("too many requests that are not signed", seconds, 429) if seconds else _UNSIGNED


def target_of(request: Request) -> str:
    """The path and query as sent, which the signature covers."""
    return f"{request.raw_path}?{request.raw_query}" if request.raw_query else request.raw_path
