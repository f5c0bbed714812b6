"""The admin listener of an edge: public health checks, and metrics for clients with the token."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.adapters.local.credentials import TokenVerifier
from gateway.lib.metrics import Metrics
from gateway.playback.health import Health
from proxy.edge.admin_pages import AdminPages
from tests.support.http import Listener, serving

TOKEN = "a-token"


@asynccontextmanager
async def admin(*missing: str, refusals: int = 100) -> AsyncIterator[Listener]:
    async def told() -> list[str]:
        return list(missing)

    verifier = TokenVerifier(hashlib.sha256(TOKEN.encode()).digest())
    async with serving(AdminPages(Health(told), Metrics("1"), verifier, refusals)) as listener:
        yield listener


async def test_health_checks_need_no_token() -> None:
    async with admin() as listener:
        assert (await listener.get("/healthcheck")).text == "OK"
        assert (await listener.get("/ready")).status == 200
    async with admin("registry") as listener:
        ready = await listener.get("/ready")
        assert (ready.status, ready.text) == (503, '{"ready": false, "missing": ["registry"]}')
        assert (await listener.get("/healthcheck")).status == 200


async def test_metrics_need_the_token() -> None:
    async with admin() as listener:
        for said in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": ""}):
            found = await listener.get("/metrics", **said)
            assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
        found = await listener.get("/metrics", Authorization=f"bearer {TOKEN}")
        assert found.status == 200 and "millrace_build_info" in found.text


async def test_wrong_tokens_are_soon_429_but_the_right_token_works() -> None:
    async with admin(refusals=3) as listener:
        for _ in range(3):
            assert (await listener.get("/metrics", Authorization="Bearer guess")).status == 401
        found = await listener.get("/metrics", Authorization="Bearer guess")
        assert found.status == 429 and int(found.headers["retry-after"]) > 0
        assert (await listener.get("/metrics", Authorization=f"Bearer {TOKEN}")).status == 200


async def test_the_admin_listener_has_no_other_pages() -> None:
    async with admin() as listener:
        for path in ("/", "/videostream", "/_node/c1", "/console/"):
            assert (await listener.get(path)).status == 404
        assert (await listener.get("/metrics", "POST")).status == 405
