"""A database that keeps its connections open and answers nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.clients import push, until
from tests.support.gateway import running
from tests.support.media import Film
from tests.support.postgres import Postgres, postgres_server

FILM = Film("frozen-20", seconds=20)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server that this test pauses, so no other file has it."""
    with postgres_server() as server:
        yield server


def test_a_publisher_returns_to_its_stream_while_the_database_is_frozen(server: Postgres) -> None:
    settings = {"MILLRACE_DATABASE": server.new_database(), "MILLRACE_CLUSTER__SECRET": "of-this-test-only"}
    with running(**settings, MILLRACE_STREAM__LINGER="5") as gateway:
        channel = gateway.channel()
        with push(FILM, channel.push):
            channel.wait_live()
        until(lambda: channel.session()["state"] == "lingering", "the publisher has left")
        server.send(signal.SIGSTOP)
        try:
            with push(FILM, channel.push) as again:
                until(lambda: channel.session()["state"] == "live", "it goes on", timeout=5)
                assert again.process.poll() is None
        finally:
            server.send(signal.SIGCONT)
