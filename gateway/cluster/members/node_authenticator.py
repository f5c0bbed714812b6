"""Checks whether a request is from a node of this cluster."""

from typing import Final

import structlog

from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.refusals import Refusals
from gateway.ports.cluster_secret import ClusterSecret
from gateway.protocols import nodes

log = structlog.get_logger(__name__)

_LOG_SECONDS: Final = 10.0  # minimum time between two log lines
_UNSIGNED: Final = text(401, "not signed with the secret of this cluster")


class NodeAuthenticator:
    """Verifies signatures. Its truth value is false if no secret is set. Counter: `refused`, by reason.

    refusals_per_minute: wrong signatures of an address beyond this number get 429; 0: no limit.
    """

    def __init__(self, secret: str | ClusterSecret, refusals_per_minute: int, clocks: Clocks = SYSTEM_CLOCKS) -> None:
        self._secret = ClusterSecret.of(secret)
        self._refusals = Refusals(refusals_per_minute)
        self._clock = clocks.wall
        self._monotonic = clocks.monotonic
        self._last_logged = -_LOG_SECONDS  # monotonic seconds of the last logged refusal
        self.refused: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._secret)

    def problem(self, request: Request) -> str:
        """Returns "" if the signature is valid, else the reason: missing, wrong or skew."""
        signature = request.headers.get(nodes.HEADER, "")
        if not signature:
            return "missing"
        return self._secret.verify(request.method, target_of(request), signature, self._clock())

    def refuse(self, request: Request, problem: str) -> Response:
        """Answers 401, or 429 beyond the limit of the address.

        A node with a wrong clock is not counted: it has the secret, and signs again with the Date of this answer.
        """
        now = self._monotonic()
        seconds = self._refusals.add(request.peer, now) if problem != "skew" else 0
        reason = "limited" if seconds else problem
        self.refused[reason] = self.refused.get(reason, 0) + 1
        if now - self._last_logged >= _LOG_SECONDS:
            # Any client may send any number of requests. One line per _LOG_SECONDS is enough to notice a wrong secret.
            self._last_logged = now
            log.warning("node refused", peer=request.peer, path=request.path[:200], reason=problem)
        return service_unavailable("too many requests that are not signed", seconds, 429) if seconds else _UNSIGNED


def target_of(request: Request) -> str:
    """Returns the path and query as they were sent. The signature covers them."""
    return f"{request.raw_path}?{request.raw_query}" if request.raw_query else request.raw_path
