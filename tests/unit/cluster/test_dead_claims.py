"""The claims of dead nodes are released, and those of living nodes stay."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.local.stores import SqliteRegistry
from gateway.cluster.members.dead_claims import DeadClaims
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim

CLAIM = StreamClaim("c1", "a", "127.0.0.1:1", "k1", 1.0)


class Cluster:
    """A node that looks for stream c1, which node `a` has claimed."""

    def __init__(self, registry: SqliteRegistry, locator: RegistryLocator, claims: DeadClaims) -> None:
        self.registry, self.locator, self.claims = registry, locator, claims

    async def beat(self, count: int) -> None:
        await self.registry.beat(Node("a", NodeRole.GATEWAY, "127.0.0.1:1", count))

    def fail(self) -> None:
        """Node `a` does not answer for the stream."""
        self.locator.invalidate("c1@720p", self.locator.address_of(CLAIM))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with SqliteRegistry(tmp_path / "nodes.db") as registry, Tasks("test") as tasks:
        locator = RegistryLocator(registry)
        tasks.start(locator.run())
        await registry.claim(CLAIM, {})
        yield Cluster(registry, locator, DeadClaims(registry, locator))


async def test_the_claim_of_a_node_without_a_row_is_released_for_the_next_node(cluster: Cluster) -> None:
    cluster.fail()
    await cluster.claims.check()
    assert await cluster.locator.find("c1") is None
    claim = await cluster.registry.claim_of("c1")
    assert claim is not None
    assert (claim.left, claim.started) == (True, CLAIM.started)


async def test_the_claim_of_a_node_whose_heartbeat_stopped_is_released(cluster: Cluster) -> None:
    await cluster.beat(5)
    cluster.fail()
    await cluster.claims.check()
    assert await cluster.registry.claim_of("c1") == CLAIM
    await cluster.claims.check()
    assert await cluster.locator.find("c1") is None


async def test_the_claim_of_a_living_node_stays(cluster: Cluster) -> None:
    for count in range(5, 10):
        await cluster.beat(count)
        cluster.fail()
        await cluster.claims.check()
    assert await cluster.registry.claim_of("c1") == CLAIM


async def test_the_claim_of_a_node_that_answers_is_not_checked(cluster: Cluster) -> None:
    assert await cluster.locator.find("c1") is not None
    await cluster.claims.check()
    assert await cluster.registry.claim_of("c1") == CLAIM


async def test_the_claim_of_the_next_node_stays(cluster: Cluster) -> None:
    cluster.fail()
    following = StreamClaim("c1", "b", "127.0.0.1:2", "k2", 1.0)
    await cluster.registry.claim(following, {}, replaces="k1")
    await cluster.claims.check()
    assert await cluster.registry.claim_of("c1") == following


async def test_a_claim_is_released_when_the_registry_answers_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: object, **more: object) -> None:
        raise StoreUnavailable("gone")

    cluster.fail()
    for method in ("node", "release"):
        with monkeypatch.context() as patch, contextlib.suppress(StoreUnavailable):
            patch.setattr(cluster.registry, method, away)
            await cluster.claims.check()
        assert await cluster.registry.claim_of("c1") == CLAIM
    await cluster.claims.check()
    assert await cluster.locator.find("c1") is None
