"""Entries of the console that cannot be read: lists go on without them, and the API deletes or replaces them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

PASSWORD = "correct horse battery"
DAMAGED = ("nonsense", "[]", "{}", '{"name": 5, "rules": 5, "since": 5, "secret": 5, "confirmed": 1, "created": "x"}')
# The kind and key of an entry, and the requests while it is damaged, with their statuses.
REQUESTS: Mapping[str, tuple[str, str, list[tuple[str, str, Any, int]]]] = {
    "user": ("user", "odd", [("GET", "/users", None, 200), ("DELETE", "/users/odd", None, 200)]),
    "second factor": (
        "factor",
        "good",
        [
            ("GET", "/users", None, 200),
            ("POST", "/login", {"name": "good", "password": PASSWORD}, 503),  # nobody passes without it
            ("DELETE", "/users/good/second-factor", None, 200),
            ("POST", "/login", {"name": "good", "password": PASSWORD}, 200),
        ],
    ),
    "alarms": ("alarms", "rules", [("PUT", "/alarms", [], 200), ("GET", "/alarms", None, 200)]),
    "site": ("site", "site", [("PUT", "/site", {"title": "Hall"}, 200), ("GET", "/site", None, 200)]),
    "profile": ("profile", "token:", [("PUT", "/profile", {"a": 1}, 200), ("GET", "/profile", None, 200)]),
}
gateway = shared_gateway()


def write(gateway: Gateway, name: str, statement: str, *values: str) -> None:
    with contextlib.closing(sqlite3.connect(gateway.data / name, timeout=10)) as database, database:
        database.execute(statement, values)


def damage(gateway: Gateway, kind: str, key: str, text: str) -> None:
    write(gateway, "console.db", "INSERT OR REPLACE INTO people VALUES (?, ?, 0, ?)", kind, key, text)


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("entry", REQUESTS)
def test_an_entry_that_cannot_be_read_is_deleted_or_replaced(gateway: Gateway, entry: str, text: str) -> None:
    assert gateway.api("POST", "/users", {"name": "good", "password": PASSWORD}).status in (200, 409)
    kind, key, requests = REQUESTS[entry]
    damage(gateway, kind, key, text)
    for method, path, body, status in requests:
        assert gateway.api(method, path, body).status == status, (method, path)


def test_a_token_of_another_form_is_revoked(gateway: Gateway) -> None:
    damage(gateway, "apitoken", "ab" * 32, "{}")
    assert gateway.api("DELETE", f"/tokens/{'ab' * 8}").json() == {"id": "ab" * 8, "revoked": True}
    assert gateway.api("DELETE", f"/tokens/{'ab' * 8}").status == 404


@pytest.mark.parametrize("text", [*DAMAGED, '{"deletedAt": 1e300, "media": "keep"}'])
def test_media_of_a_deleted_channel_whose_record_cannot_be_read_are_deleted(gateway: Gateway, text: str) -> None:
    write(gateway, "millrace.db", "INSERT OR REPLACE INTO channels VALUES ('deleted/c1', ?)", text)
    film = gateway.data / "media" / "c1/clips/2026/11/28/clip-1795694400000-1795694401000.mp4"
    film.parent.mkdir(parents=True, exist_ok=True)
    film.write_bytes(b"film")
    assert gateway.api("GET", "/media/channels").status == 200
    assert gateway.api("DELETE", "/media?channel=c1").status == 200
    assert not film.exists()
