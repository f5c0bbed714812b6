"""Gateways of several worker processes, which only Linux has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cores import Cores, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts gateways of several workers, each in a folder of its own, and ends what a test leaves running."""
    started: list[Cores] = []

    def start(workers: int = 2, program: type[Cores] = Cores, **settings: str) -> Cores:
        folder = tmp_path / f"{len(started)}"
        folder.mkdir()
        gateway = program(folder, workers, **settings)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield start
    for gateway in started:
        with contextlib.suppress(AssertionError):
            gateway.stop(10)
