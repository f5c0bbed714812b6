"""A moto server: AWS services for tests over real HTTP, because its in-process mocks do not work with asyncio."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.run_folder import run_folder
from tests.support.time_outs import at_most


@functools.cache
def small_bundle() -> str:
    """The path of a file with one authority, for `AWS_CA_BUNDLE`. The doubles speak HTTP, but each client reads it.

    With botocore's own file of all authorities, that was a fifth of the CPU of tests of stores.
    """
    folder = run_folder() / f"authority-{os.getpid()}"
    folder.mkdir()
    return str(Authority(folder).file)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """The address of an empty server for one test module. Modules use distinct names, because they share its data."""
    import requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    with pytest.MonkeyPatch.context() as patch:
        _write_in_one_step(patch)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        try:
            requests.post(f"{url}/moto-api/reset", timeout=at_most(10)).raise_for_status()
            yield url
        finally:
            server.stop()


def _write_in_one_step(patch: pytest.MonkeyPatch) -> None:
    """Makes conditional writes atomic, as in DynamoDB.

    moto 5.2.5 checks and writes in two steps, with one thread per request. So two of many writers could win.
    """
    from moto.dynamodb.responses import DynamoHandler

    act, one = DynamoHandler.call_action, threading.Lock()

    def alone(self: Any) -> Any:
        with one:
            return act(self)

    patch.setattr(DynamoHandler, "call_action", alone)
