"""The list of channels by pages over HTTP: live channels first, search, states, wrong parameters."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.admin import Admin, admin


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Admin]:
    async with admin(tmp_path) as opened:
        yield opened


def names(page: dict[str, Any]) -> list[str]:
    return [channel["videoname"] for channel in page["channels"]]


async def test_live_channels_come_first_and_pages_follow_each_other(api: Admin) -> None:
    made = [await api.create(videoname=f"Camera {n}") for n in range(12)]
    await api.create(videoname="Old", outdate="2020-01-01")
    await api.push(made[10]["id"])
    first = await api.json("GET", "/videostreams?sort=state&limit=5")
    assert names(first) == ["Camera 10", "Camera 0", "Camera 1", "Camera 2", "Camera 3"]
    assert first["found"] == 13
    assert first["states"] == {"live": 1, "idle": 11, "expired": 1}
    last = await api.json("GET", "/videostreams?sort=state&limit=5&offset=10")
    assert names(last) == ["Camera 9", "Camera 11", "Old"]
    whole = await api.json("GET", "/videostream")
    shown = {channel["id"]: channel for channel in whole}
    assert [channel | {"playUrls": 0} for channel in last["channels"]] == [
        shown[channel["id"]] | {"playUrls": 0} for channel in last["channels"]
    ]


async def test_search_and_state_are_combined_and_the_counts_are_of_all_channels(api: Admin) -> None:
    one, _ = await api.create(videoname="Bühne links"), await api.create(videoname="Bühne rechts")
    await api.create(videoname="100% Café", description="Pier_7")
    await api.push(one["id"])
    assert names(await api.json("GET", "/videostreams?search=B%C3%9CHNE&state=live")) == ["Bühne links"]
    found = await api.json("GET", "/videostreams?search=b%C3%BChne&state=idle")
    assert (names(found), found["found"]) == (["Bühne rechts"], 1)
    assert found["states"] == {"live": 1, "idle": 2, "expired": 0}
    assert names(await api.json("GET", "/videostreams?search=%25+_7")) == ["100% Café"]
    assert names(await api.json("GET", "/videostreams?search=%00%25")) == ["100% Café"]
    assert names(await api.json("GET", "/videostreams?sort=-name&limit=2")) == ["Bühne rechts", "Bühne links"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("offset=-1", "offset"),
        ("offset=9999999999", "offset"),
        ("sort=id", "sort"),
        ("sort=--name", "sort"),
        ("state=paused", "state"),
        (f"search={'x' * 201}", "search"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Admin, query: str, field: str) -> None:
    assert (await api.json("GET", f"/videostreams?{query}", status=400))["field"] == field
