"""Several real gateways with a shared registry, a shared channel store and the same secrets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.clients import until
from tests.support.gateway import Edge, Gateway


def _shared(folder: Path) -> dict[str, str]:
    """The settings that all nodes have in common."""
    return {
        "MILLRACE_REGISTRY": f"sqlite:///{folder}/registry.db",
        "MILLRACE_CHANNELS": f"sqlite:///{folder}/channels.db",
        "MILLRACE_CLUSTER__SECRET": "what the nodes share",
        "MILLRACE_SIGNING__SECRET": "what the keys are signed with",
    }


@contextlib.contextmanager
def sharing(folder: Path, count: int, **more: str) -> Iterator[list[Gateway]]:
    """Starts gateways with a shared registry, channels and secrets. more: additional settings."""
    with started(folder, count, {**_shared(folder), **more}) as gateways:
        for gateway in gateways:
            until(lambda gateway=gateway: len(nodes(gateway)) == count, "all nodes know of each other")
        yield gateways


@contextlib.contextmanager
def started(folder: Path, count: int, settings: Mapping[str, str]) -> Iterator[list[Gateway]]:
    """Starts gateways with the same settings, each with a data folder of its own."""
    with contextlib.ExitStack() as stack:
        gateways = []
        for number in range(count):
            (own := folder / f"node{number}").mkdir()
            gateways.append(Gateway(own, **settings))
            stack.callback(end, gateways[-1])
        for gateway in gateways:
            gateway.wait_ready()
        yield gateways


@contextlib.contextmanager
def with_edge(folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[Gateway, Gateway, Edge]]:
    """Starts two gateways and an edge with one registry, and judges that each ends cleanly, the edge first."""
    shared = {**_shared(folder), **settings}
    for name in ("a", "b", "edge"):
        (folder / name).mkdir()
    running: list[Gateway] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [node.stop() for node in reversed(running)])
        a, b = Gateway(folder / "a", **shared), Gateway(folder / "b", **shared)
        running += [a, b]
        for node in running:
            node.wait_ready()
        edge = Edge(folder / "edge", **shared)
        running.append(edge)
        edge.wait_ready()
        yield a, b, edge


def end(gateway: Gateway) -> None:
    with contextlib.suppress(AssertionError):
        gateway.stop(15)


def nodes(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.api("GET", "/nodes").json()
    return [node for node in found if node["answers"]]
