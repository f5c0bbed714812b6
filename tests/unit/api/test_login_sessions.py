"""Logins: what they promise when several things happen at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.api.login_sessions import ApiUser, LoginLimits, LoginSessions

NOW = 1_800_000_000.0
ADMIN = ApiUser("token", "admin")


class Memory:
    """A ConsoleStore in memory, whose answers may be held back."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0
        self.writes = 0

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        self.reads += 1
        found = self.items.get((kind, key))
        await self.gate.wait()
        return found

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        self.items[kind, key] = dict(value)

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        self.writes += 1
        await self.gate.wait()
        if (kind, key) not in self.items:
            return False
        self.items[kind, key] = dict(value)
        return True

    async def delete(self, kind: str, key: str) -> bool:
        return self.items.pop((kind, key), None) is not None

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        return {key: value for (its, key), value in self.items.items() if its == kind}


class Marks:
    now = "first"

    async def __call__(self, user: ApiUser) -> str:
        return self.now


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def logins(store: Memory, marks: Marks) -> LoginSessions:
    return LoginSessions(store, LoginLimits(1000, 5000), marks)  # type: ignore[arg-type]


async def test_who_reads_the_store_cannot_sign_in(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    ((_, key),) = store.items
    assert cookie not in str(store.items)
    assert await logins.get(key, NOW) is None


async def test_the_store_is_not_asked_for_every_request(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    for n in range(20):
        assert await logins.get(cookie, NOW + n / 10)
    assert (store.reads, store.writes) == (1, 0)
    assert await logins.get(cookie, NOW + 4)
    assert store.reads == 2


async def test_use_is_written_down_now_and_then(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    for n in range(600):
        assert await logins.get(cookie, NOW + n)
    assert store.writes == 9


async def test_a_login_that_is_closed_while_its_use_is_written_does_not_come_back(
    logins: LoginSessions, store: Memory
) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    store.gate.clear()
    looking = asyncio.ensure_future(logins.get(cookie, NOW + 500))
    await asyncio.sleep(0)
    await logins.close(cookie)
    store.gate.set()
    await looking
    assert store.items == {}
    assert await logins.get(cookie, NOW + 500) is None


async def test_a_login_that_is_closed_while_it_is_looked_up_is_not_remembered(
    logins: LoginSessions, store: Memory
) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    store.gate.clear()
    looking = asyncio.ensure_future(logins.get(cookie, NOW + 1))
    await asyncio.sleep(0)
    await logins.close(cookie)
    store.gate.set()
    await looking
    assert await logins.get(cookie, NOW + 1) is None


async def test_a_login_ends_with_what_it_was_opened_with(logins: LoginSessions, store: Memory, marks: Marks) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    marks.now = "second"
    assert await logins.get(cookie, NOW) is None
    assert store.items == {}


async def test_nobody_gets_in_with_what_changed_while_signing_in(logins: LoginSessions, marks: Marks) -> None:
    """The password was right, and another one was set before the session was there."""
    marks.now = "second"
    cookie, _ = await logins.open(ApiUser("user", "eva", "eva"), "first", NOW)
    assert await logins.get(cookie, NOW) is None


async def test_all_of_one_person_are_closed_and_nobody_elses(logins: LoginSessions) -> None:
    eva, adam = ApiUser("user", "eva", "eva"), ApiUser("user", "adam", "adam")
    cookies = [(await logins.open(p, "first", NOW))[0] for p in (eva, eva, adam, ApiUser("oidc", "eva", "eva"))]
    await logins.close_all(eva)
    assert [await logins.get(c, NOW) is not None for c in cookies] == [False, False, True, True]


async def test_a_clock_that_goes_back_ends_nothing(logins: LoginSessions) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    assert await logins.get(cookie, NOW - 3600)
    assert await logins.get(cookie, NOW)
