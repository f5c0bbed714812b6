"""The list of servers for the browser client of the original system."""

from __future__ import annotations

from pathlib import Path

from gateway.api.schemas import BroadcastServers
from gateway.api.servers import BROADCAST_SERVERS, NO_SERVERS
from gateway.ports.errors import StoreUnavailable
from tests.support.admin import admin

ROW = {"role": "primary", "dns": "ec2-3-70-0-1.compute.amazonaws.com", "replaced": "no", "eventid": "e-1"}


async def test_the_server_list_needs_no_token(tmp_path: Path) -> None:
    async def rows() -> list[dict[str, str]]:
        return [ROW]

    async with admin(tmp_path, services={BROADCAST_SERVERS: rows}) as api:
        response = await api.call("GET", "/getServers", token=None)
        told = await response.json()
        assert response.status == 200 and told == {"Items": [ROW], "Count": 1, "ScannedCount": 1}
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        BroadcastServers.model_validate(told)


async def test_an_empty_server_list_is_503_with_the_original_error_text(tmp_path: Path) -> None:
    async def none() -> list[dict[str, str]]:
        return []

    for services in ({}, {BROADCAST_SERVERS: none}):
        (tmp_path / str(len(services))).mkdir()
        async with admin(tmp_path / str(len(services)), services=services) as api:
            assert await api.json("GET", "/getServers", status=503) == {"error": NO_SERVERS}


async def test_an_unavailable_table_is_not_reported_as_missing_servers(tmp_path: Path) -> None:
    async def away() -> list[dict[str, str]]:
        raise StoreUnavailable("dynamodb does not answer", retry_after=7)

    async with admin(tmp_path, services={BROADCAST_SERVERS: away}) as api:
        response = await api.call("GET", "/getServers", token=None)
        assert response.status == 503 and response.headers["Retry-After"] == "7"
        assert NO_SERVERS not in await response.text()
