"""Answers the requests of load balancers and operators: alive, ready, time."""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.http.request import Request
from gateway.http.response import JSON, Response
from gateway.lib.rfc3339 import rfc3339

_ALIVE: Final = Response(200, b"OK")


@dataclass(frozen=True, slots=True)
class Health:
    """Answers the health requests.

    missing: returns short reasons why this node cannot serve; an empty list if it is ready.
    degraded: returns the names of missing parts that live streams do not need.
    """

    missing: Callable[[], Awaitable[Sequence[str]]]
    degraded: Callable[[], Iterable[str]] = tuple

    def alive(self, request: Request) -> Response:
        """Answers `/healthcheck`: the process runs, even if stores or other nodes are unavailable."""
        return _ALIVE

    async def ready(self, request: Request) -> Response:
        """Answers `/ready`: 200, or 503 with the reasons."""
        missing = list(await self.missing())
        body = json.dumps({"ready": not missing, "missing": [*missing, *self.degraded()]}).encode()
        headers = {"Retry-After": "5"} if missing else {}
        return Response(503 if missing else 200, body, JSON, headers=headers)

    def time(self, request: Request) -> Response:
        """Answers `/time`: the clock of PROGRAM-DATE-TIME and the MPD.

        DASH-IF IOP §4.7: urn:mpeg:dash:utc:http-iso:2014.
        """
        return Response(200, rfc3339(time.time()).encode())
