"""Tokens for scripts, while the list of tokens is being read or cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.ports.api_tokens import ApiTokens
from gateway.ports.errors import StoreUnavailable
from gateway.ports.users import ADMINISTRATOR
from tests.support.waiting import until


class CountingConsole(SqliteConsole):
    """Counts its calls. away: no list can be read. gate: a list that begins now is answered when this is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lists = self.puts = 0
        self.away, self.gate = False, asyncio.Event()
        self.gate.set()

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        self.lists += 1
        gate, found = self.gate, await super().list(kind)
        await gate.wait()
        if self.away:
            raise StoreUnavailable("gone")
        return found

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        await super().put(kind, key, value, expires)
        self.puts += 1


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingConsole]:
    async with CountingConsole(tmp_path / "console.sqlite3") as store:
        yield store


@pytest.fixture
async def secret(store: CountingConsole) -> str:
    """A token that another process has made."""
    secret, _ = await ApiTokens(store).add("script", ADMINISTRATOR, 0)
    store.lists = store.puts = 0
    return secret


async def test_requests_at_the_same_time_share_one_read_of_the_list(store: CountingConsole, secret: str):
    tokens = ApiTokens(store)
    found = await asyncio.gather(*(tokens.find(secret) for _ in range(3)))
    assert [token is not None and token.name for token in found] == ["script"] * 3
    assert await tokens.find("mlr_wrong") is None
    assert store.lists == 1


async def test_no_token_is_wrong_while_the_list_cannot_be_read(
    store: CountingConsole, secret: str, monkeypatch: pytest.MonkeyPatch
):
    tokens, store.away = ApiTokens(store), True
    found = await asyncio.gather(*(tokens.find(secret) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["gone"] * 3
    with pytest.raises(StoreUnavailable):
        await tokens.find(secret)
    assert store.lists == 1
    store.away = False
    monkeypatch.setattr("gateway.ports.api_tokens._LIST_SECONDS", 0.0)
    assert await tokens.find(secret) is not None


async def test_a_token_made_during_a_read_of_the_list_works_at_once(store: CountingConsole):
    tokens, gate = ApiTokens(store), asyncio.Event()
    opened, store.gate = store.gate, gate
    reading = asyncio.ensure_future(tokens.find("mlr_wrong"))
    await until(lambda: store.lists)
    store.gate = opened
    adding = asyncio.ensure_future(tokens.add("script", ADMINISTRATOR, 0))
    await until(lambda: store.puts)
    gate.set()
    assert await reading is None
    secret, _ = await adding
    assert await tokens.find(secret) is not None
