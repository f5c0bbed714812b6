"""Health: what load balancers and people ask: is it alive, is it ready, what time is it."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.servers.request import Request
from gateway.servers.response import JSON, Response

_ALIVE: Final = Response(200, b"OK")


class Health:
    """`missing` says what keeps this node from serving, each in a few words; nothing: it is ready."""

    def __init__(self, missing: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._missing = missing

    def alive(self, request: Request) -> Response:
        """`/healthcheck`: the process answers, whatever else is away."""
        return _ALIVE

    async def ready(self, request: Request) -> Response:
        """`/ready`: 200, or 503 with what is missing."""
        missing = list(await self._missing())
        body = json.dumps({"ready": not missing, "missing": missing}).encode()
        headers = {"Retry-After": "5"} if missing else {}
        return Response(503 if missing else 200, body, JSON, headers=headers)

    def time(self, request: Request) -> Response:
        """`/time`: the clock of PROGRAM-DATE-TIME and the MPD (DASH-IF IOP §4.7: urn:mpeg:dash:utc:http-iso:2014)."""
        now = datetime.fromtimestamp(time.time(), UTC)
        return Response(200, now.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode())
