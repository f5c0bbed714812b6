"""The admin listener of an edge: health check, readiness and metrics."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from gateway.adapters.local.credentials import TokenVerifier
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.metric_table import REFUSED, MetricSample
from gateway.lib.metrics import CONTENT_TYPE, Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.lib.refusals import Refusals
from gateway.playback.health import Health
from gateway.playback.play_format import AnswerOrAwaitable

_NO_PAGE: Final = text(404, "not found: an edge serves /healthcheck, /ready and /metrics here")
_TOKEN_NEEDED: Final = text(401, "the admin token is needed", headers={"WWW-Authenticate": "Bearer"})


class AdminPages:
    """The handler of the admin listener.

    total_metrics: returns the sum over all processes on these ports; None if this is the only process.
    refused: number of refused requests by reason.
    """

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        verifier: TokenVerifier,
        refusals_per_minute: int,
        total_metrics: Callable[[], Awaitable[MetricsSnapshot]] | None = None,
    ) -> None:
        self._metrics, self._total_metrics, self._verifier = metrics, total_metrics, verifier
        self._refusals = Refusals(refusals_per_minute)
        self._pages: dict[str, Callable[[Request], AnswerOrAwaitable]] = {
            "/healthcheck": health.alive,
            "/ready": health.ready,
            "/metrics": self._metrics_page,
        }
        self.refused: dict[str, int] = {}

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        page = self._pages.get(request.path)
        return page(request) if page is not None else _NO_PAGE

    def samples(self) -> Iterator[MetricSample]:
        """Yields the refused requests."""
        for reason, count in self.refused.items():
            yield MetricSample(REFUSED, count, ("api", reason))

    def _metrics_page(self, request: Request) -> AnswerOrAwaitable:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._verifier.verify(token.strip()):
            if token and not request.exempt and (wait := self._refusals.add(request.peer, time.monotonic())):
                answer = service_unavailable("too many wrong tokens from this address", wait, 429)
                return self._refuse("limited", answer)
            return self._refuse("wrong" if token else "missing", _TOKEN_NEEDED)
        if self._total_metrics is not None:
            return _render(self._total_metrics)
        return Response(200, self._metrics.render(), CONTENT_TYPE)

    def _refuse(self, reason: str, answer: Response) -> Response:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return answer


async def _render(snapshot: Callable[[], Awaitable[MetricsSnapshot]]) -> Response:
    return Response(200, (await snapshot()).render(), CONTENT_TYPE)
