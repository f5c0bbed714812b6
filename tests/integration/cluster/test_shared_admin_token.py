"""All machines of a fleet with one database accept one admin token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest_asyncio
import structlog

from gateway.adapters.local.credentials import AdminToken, admin_token
from gateway.adapters.local.stores import SqliteConsole
from gateway.adapters.shared_admin_token import KIND, SharedAdminToken, shares_token
from gateway.settings import load
from tests.support.clients import until
from tests.support.command_line import run
from tests.support.gateway import Gateway
from tests.support.postgres import Postgres


@pytest_asyncio.fixture
async def store(tmp_path: Path):
    async with SqliteConsole(tmp_path / "shared.db") as opened:
        yield opened


def machine(tmp_path: Path, name: str) -> AdminToken:
    (tmp_path / name).mkdir(exist_ok=True)
    return admin_token(load(environ={}, overrides=[f"data={tmp_path / name}"]))


async def test_the_second_machine_takes_the_token_of_the_first(tmp_path: Path, store: SqliteConsole) -> None:
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    text = first.make()
    assert await SharedAdminToken(first, store).claim()
    assert first.store()
    await SharedAdminToken(second, store).look()
    assert second.is_known and second.verifier.verify(text)
    assert machine(tmp_path, "second").verifier.verify(text), "its data folder has a copy"
    assert text not in str(await store.get(KIND, KIND))


async def test_of_two_machines_that_start_together_one_has_the_token(tmp_path: Path, store: SqliteConsole) -> None:
    tokens = [machine(tmp_path, name) for name in ("first", "second")]
    texts = [token.make() for token in tokens]
    claimed = [await SharedAdminToken(token, store).claim() for token in tokens]
    assert claimed == [True, False]
    assert [token.verifier.verify(texts[0]) for token in tokens] == [True, True]


async def test_a_damaged_entry_leaves_the_own_token(tmp_path: Path, store: SqliteConsole) -> None:
    token = machine(tmp_path, "first")
    text = token.make()
    assert token.store()
    await store.put(KIND, KIND, {"hash": "sha256:1"})
    with structlog.testing.capture_logs() as logs:
        await SharedAdminToken(token, store).look()
    assert ["holds no hash of a token" in line["reason"] for line in logs] == [True]
    assert token.verifier.verify(text)


def test_a_single_machine_and_a_token_of_the_settings_share_nothing() -> None:
    shared = ["admin.store=dynamodb://console"]
    assert [shares_token(load(environ={}, overrides=options)) for options in ([], shared)] == [False, True]
    assert not shares_token(load(environ={}, overrides=[*shared, "admin.token=of-this-test-only-1234"]))


def test_one_token_serves_two_gateways_and_a_reset_reaches_both(postgres: Postgres, tmp_path: Path) -> None:
    settings = {"MILLRACE_DATABASE": postgres.new_database(), "MILLRACE_CLUSTER__SECRET": "of-this-test-only"}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    gateways: list[Gateway] = []
    try:
        for name in ("one", "two"):
            gateways.append(Gateway(tmp_path / name, **settings, MILLRACE_ADMIN__TOKEN=""))
            gateways[-1].wait_ready()
            until(lambda: "Admin token, shown only now" in gateways[0].log, "the first one has shown the token")
        first, second = gateways
        env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        env |= settings | {"MILLRACE_DATA": str(first.data)}
        token = first.log.partition("shown only now: ")[2].split()[0]
        for gateway in gateways:
            gateway.token = token
            assert gateway.api("GET", "/users").status == 200
        assert "Admin token" not in second.log
        done = run("token", "reset", env=env)
        assert done.returncode == 0, done.stderr
        for gateway in gateways:
            gateway.token = done.stdout.strip()
            until(lambda gateway=gateway: gateway.api("GET", "/users").status == 200, "it accepts the new token")
    finally:
        for gateway in gateways:
            gateway.stop()
