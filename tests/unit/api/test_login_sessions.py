"""Login sessions, also when several operations happen at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.api.login_sessions import ApiUser, LoginLimits, LoginSessions

NOW = 1_800_000_000.0
ADMIN = ApiUser("token", "admin")


class Memory:
    """A `ConsoleStore` in memory. A cleared `gate` delays its answers."""

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


async def test_stored_session_keys_cannot_be_used_as_cookies(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    ((_, key),) = store.items
    assert cookie not in str(store.items)
    assert await logins.get(key, NOW) is None


async def test_session_lookups_are_cached_for_a_few_seconds(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    for n in range(20):
        assert await logins.get(cookie, NOW + n / 10)
    assert (store.reads, store.writes) == (1, 0)
    assert await logins.get(cookie, NOW + 4)
    assert store.reads == 2


async def test_the_last_use_of_a_session_is_stored_only_rarely(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    for n in range(600):
        assert await logins.get(cookie, NOW + n)
    assert store.writes == 9


async def test_a_session_closed_during_a_write_of_its_use_stays_closed(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    store.gate.clear()
    looking = asyncio.ensure_future(logins.get(cookie, NOW + 500))
    await asyncio.sleep(0)
    await logins.close(cookie)
    store.gate.set()
    await looking
    assert store.items == {}
    assert await logins.get(cookie, NOW + 500) is None


async def test_a_session_closed_during_its_lookup_is_not_cached(logins: LoginSessions, store: Memory) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    store.gate.clear()
    looking = asyncio.ensure_future(logins.get(cookie, NOW + 1))
    await asyncio.sleep(0)
    await logins.close(cookie)
    store.gate.set()
    await looking
    assert await logins.get(cookie, NOW + 1) is None


async def test_a_session_ends_when_the_mark_of_its_user_changes(
    logins: LoginSessions, store: Memory, marks: Marks
) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    marks.now = "second"
    assert await logins.get(cookie, NOW) is None
    assert store.items == {}


async def test_a_session_is_invalid_if_the_password_changed_during_sign_in(logins: LoginSessions, marks: Marks) -> None:
    """The password was correct, but it was changed before the session was created."""
    marks.now = "second"
    cookie, _ = await logins.open(ApiUser("user", "eva", "eva"), "first", NOW)
    assert await logins.get(cookie, NOW) is None


async def test_closing_all_sessions_of_a_user_keeps_those_of_others(logins: LoginSessions) -> None:
    eva, adam = ApiUser("user", "eva", "eva"), ApiUser("user", "adam", "adam")
    cookies = [(await logins.open(p, "first", NOW))[0] for p in (eva, eva, adam, ApiUser("oidc", "eva", "eva"))]
    await logins.close_all(eva)
    assert [await logins.get(c, NOW) is not None for c in cookies] == [False, False, True, True]


async def test_a_clock_set_back_does_not_end_a_session(logins: LoginSessions) -> None:
    cookie, _ = await logins.open(ADMIN, "first", NOW)
    assert await logins.get(cookie, NOW - 3600)
    assert await logins.get(cookie, NOW)
