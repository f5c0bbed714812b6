"""Changes of a user that happen at the same time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.lib import passwords
from gateway.lib.attempt_limiter import Attempt
from gateway.ports.users import Rights, UserRole, Users
from tests.support.waiting import until


async def test_rights_that_change_while_a_password_is_hashed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passwords, "_N", 1 << 8)
    hash_password, begun, may_end = passwords.hash_password, threading.Event(), threading.Event()

    def slow(password: str) -> dict[str, Any]:
        begun.set()
        may_end.wait()
        return hash_password(password)

    async with SqliteConsole(tmp_path / "console.sqlite3") as store:
        users = Users(store)
        await users.add("ann", "first horse", 1.0)
        monkeypatch.setattr(passwords, "hash_password", slow)
        changing = asyncio.ensure_future(users.change("ann", "second horse", 2.0))
        await until(begun.is_set)
        demoted = Rights(UserRole.BROADCASTER, ("c1",))
        try:
            await users.change("ann", None, 2.0, demoted)
        finally:
            may_end.set()
        assert (await changing).rights == demoted
        user = await users.check("ann", "second horse", Attempt())
        assert user is not None
        assert (user.rights, user.changed) == (demoted, 2.0)
