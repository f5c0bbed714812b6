"""The admin listener of an edge: is it alive, is it ready, what has it measured."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.adapters.local.secrets import TokenVerifier
from gateway.lib.measured import Measured
from gateway.lib.metrics import CONTENT_TYPE, Metrics
from gateway.lib.refusals import Refusals
from gateway.servers.health import Health
from gateway.servers.playback import Answering
from gateway.servers.request import Request
from gateway.servers.response import Response, text, try_later

_NO_PAGE: Final = text(404, "not found: an edge serves /healthcheck, /ready and /metrics here")
_TOKEN_NEEDED: Final = text(401, "the admin token is needed", headers={"WWW-Authenticate": "Bearer"})


class AdminPages:
    """The listener's handler. Counter: `refused` by reason."""

    def __init__(self, health: Health, metrics: Metrics, verify: TokenVerifier, refusals_per_minute: int) -> None:
        self._metrics = metrics
        self._verifier = verify
        self._refusals = Refusals(refusals_per_minute)
        self._pages: dict[str, Callable[[Request], Answering]] = {
            "/healthcheck": health.alive,
            "/ready": health.ready,
            "/metrics": self._measured,
        }
        self.sums: Callable[[], Awaitable[Measured]] | None = None  # of all processes on the same ports
        self.refused: dict[str, int] = {}

    def __call__(self, request: Request) -> Answering:
        page = self._pages.get(request.path)
        return page(request) if page is not None else _NO_PAGE

    def _measured(self, request: Request) -> Answering:
        now = time.monotonic()
        if not request.exempt and (wait := self._refusals.wait(request.peer, now)):
            return self._refuse("blocked", try_later("too many refused requests from this address", wait, 429))
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._verifier.verify(token.strip()):
            self._refusals.add(request.peer, now)
            return self._refuse("token", _TOKEN_NEEDED)
        if self.sums is not None:
            return self._summed(self.sums)
        return Response(200, self._metrics.render(), CONTENT_TYPE)

    async def _summed(self, sums: Callable[[], Awaitable[Measured]]) -> Response:
        return Response(200, (await sums()).render(), CONTENT_TYPE)

    def _refuse(self, reason: str, answer: Response) -> Response:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return answer
