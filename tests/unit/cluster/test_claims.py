"""Claims: which node gets a stream when a push arrives, also after another node has died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.adapters.local.stores import SqliteRegistry
from gateway.cluster.calls.gateway_operations import GatewayOperations
from gateway.cluster.calls.node_endpoint import Operation
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams.claims import Claims, SessionRows
from gateway.cluster.streams.forward import PushForwarder
from gateway.lib import clocks as lib_clocks
from gateway.lib.metrics import Metrics
from gateway.lib.tasks import Tasks
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.shelf import StreamLimits
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import AtCapacity, NameInUse, StoreUnavailable
from gateway.ports.nodes import Node, NodeRole, StreamClaim
from tests.support.builders import AUDIO, VIDEO, channel, picture
from tests.support.holders import SECRET, Holder, holder
from tests.support.time_outs import at_most
from tests.support.waiting import until


class Gateway:
    """A node with claims on one registry."""

    def __init__(self, one: Holder, claims: Claims, registry: SqliteRegistry, operations: dict[str, Operation]) -> None:
        self.one, self.claims, self.registry = one, claims, registry
        self.operations = operations  # that it answers
        self.evicted: list[EndReason] = []
        self.tasks: list[str] = []  # what its rows tell

    async def row(self, id: str = "c1") -> dict[str, Any] | None:
        """The session's row in the registry, without the claim itself."""
        rows = await self.registry.rows("SELECT item FROM holdings WHERE stream = ?", id)
        return json.loads(rows[0][0]) if rows else None

    async def push(self, id: str = "c1") -> StreamPublisher:
        return await self.claims.acquire(channel(id), PushOrigin("rtmp", "192.0.2.1"), self.evicted.append)

    async def hold(self, id: str = "c1") -> int | None:
        """The first number of a stream that needs no push; None if another node holds it."""
        numbers: list[int] = []
        spec = channel(id)

        def begin(first_number: int) -> Stream:
            numbers.append(first_number)
            origin = PushOrigin("slate", "")
            return self.one.hub.publish_from(origin, spec, id, self.evicted.append, first_number).stream

        assert await self.claims.hold(spec, begin) is bool(numbers)
        return numbers[0] if numbers else None

    async def live(self, id: str = "c1") -> StreamPublisher:
        publisher = await self.push(id)
        publisher.set_tracks(VIDEO, AUDIO, {})
        publisher.push(picture(0, key=True), time.monotonic())
        return publisher


class Clocks:
    """The wall clock and the monotonic clock of a test."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_900_000_000.0, 1000.0


@contextlib.asynccontextmanager
async def gateway(folder: Path, id: str, clocks: Clocks | None = None, **bounds: Any) -> AsyncIterator[Gateway]:
    clocks = clocks or Clocks()
    answered: dict[str, Operation] = {}
    async with (
        holder(operations=answered, **bounds) as one,
        Peers(SECRET) as peers,
        SqliteRegistry(folder / "nodes.db") as registry,
        Tasks("gateway") as tasks,
    ):
        locator = RegistryLocator(registry)
        forwards = PushForwarder(StreamLimits(2, 10, 15, 1_000_000), peers, Metrics("0").dropped)
        rows = SessionRows(
            registry,
            id,
            lambda: f"127.0.0.1:{one.port}",
            lambda channel, address, started: {"started": started, "taskARN": list(made.tasks)},
            lambda channel: channel.flag("isCluster"),
        )
        system = lib_clocks.Clocks(lambda: clocks.wall, lambda: clocks.monotonic)
        claims = Claims(one.hub, rows, locator, forwards, tasks, system)
        for work in (locator.run(), forwards.shelf.run()):
            tasks.start(work)
        none = cast(Any, None)
        operations = GatewayOperations(
            SiblingProcesses(id, peers), one.hub, channels=none, deleted=none, changed=none, names=none,
            remote_viewers=RemoteViewerCounts(), report=dict,
        )  # fmt: skip
        answered |= operations.table()
        made = Gateway(one, claims, registry, answered)
        try:
            yield made
        finally:
            await claims.finish()


async def test_a_push_claims_its_stream_first(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        assert (holding.node, holding.address) == ("a", f"127.0.0.1:{a.one.port}")


async def test_the_claim_ends_with_the_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        a.one.hub.end("c1", EndReason.KICKED)

        async def gone() -> None:
            while await a.registry.claim_of("c1") is not None:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(gone(), at_most(5))
        assert len(a.claims) == 0


async def test_finish_waits_until_the_registry_marks_the_claim_as_left(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        a.one.hub.drain()
        await a.claims.finish()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        assert holding.left


async def test_only_one_of_many_simultaneous_pushes_to_two_nodes_succeeds(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        pushes = await asyncio.gather(*(g.live() for g in (a, b) * 5), return_exceptions=True)
        won = [p for p in pushes if isinstance(p, StreamPublisher)]
        assert len(won) == 1
        assert all(isinstance(p, NameInUse) for p in pushes if p is not won[0])
        assert a.one.hub.holds("c1") != b.one.hub.holds("c1")


async def test_a_push_for_a_stream_that_lingers_on_another_node_is_forwarded(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        (await a.live()).close()
        await b.live()
        stream = a.one.hub.find("c1")
        assert stream is not None
        assert stream.publisher is not None
        assert not b.one.hub.holds("c1")


async def test_the_successor_of_a_node_that_refuses_connections_uses_higher_numbers(tmp_path: Path) -> None:
    clocks = Clocks()
    async with gateway(tmp_path, "b", clocks) as b:
        await b.registry.join(Node("a", NodeRole.GATEWAY, "127.0.0.1:1", 5))
        await b.registry.claim(StreamClaim("c1", "a", "127.0.0.1:1", "old", clocks.wall - 500), {})
        publisher = await b.live()
        assert publisher.stream.spec.first_number == 560
        holding = await b.registry.claim_of("c1")
        assert holding is not None
        assert (holding.node, holding.started) == ("b", clocks.wall - 500)


async def test_a_push_takes_over_the_claim_of_a_node_without_the_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await b.registry.claim(StreamClaim("c1", "a", f"127.0.0.1:{a.one.port}", "old", 1.0), {})
        await b.live()
        assert b.one.hub.holds("c1")


async def test_a_silent_node_counts_as_dead_when_its_heartbeat_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cluster.members.peers._HEAD_SECONDS", 0.05)
    clocks = Clocks()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with gateway(tmp_path, "b", clocks) as b:
            await b.registry.join(Node("a", NodeRole.GATEWAY, address, 5))
            await b.registry.claim(StreamClaim("c1", "a", address, "old", 1.0), {})
            with pytest.raises(AtCapacity):
                await b.push()
            clocks.monotonic += 9
            with pytest.raises(AtCapacity):
                await b.push()
            await b.registry.beat(Node("a", NodeRole.GATEWAY, address, 6))
            clocks.monotonic += 9
            with pytest.raises(AtCapacity):  # it lives
                await b.push()
            clocks.monotonic += 10
            await b.live()
            assert b.one.hub.holds("c1")


# ---- a stream without a push ----


async def test_a_stream_without_a_push_is_taken_from_a_node_that_refuses_connections(tmp_path: Path) -> None:
    clocks = Clocks()
    async with gateway(tmp_path, "b", clocks) as b:
        await b.registry.join(Node("a", NodeRole.GATEWAY, "127.0.0.1:1", 5))
        await b.registry.claim(StreamClaim("c1", "a", "127.0.0.1:1", "old", clocks.wall - 500), {})
        assert await b.hold() == 560
        holding = await b.registry.claim_of("c1")
        assert holding is not None
        assert holding.node == "b"


@pytest.mark.parametrize("earlier", ["a", "dead.1"])
async def test_a_stream_without_a_push_is_taken_from_a_node_that_does_not_have_it(tmp_path: Path, earlier: str) -> None:
    """Also from an earlier process, at whose address another one answers now."""
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await b.registry.claim(StreamClaim("c1", earlier, f"127.0.0.1:{a.one.port}", "old", 1.0), {})
        assert await b.hold() is not None
        assert b.one.hub.holds("c1")


async def test_a_stream_without_a_push_stays_on_the_node_that_has_it_without_media(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b") as b:
        await a.push()
        holding = await a.registry.claim_of("c1")
        assert await b.hold() is None
        assert await b.registry.claim_of("c1") == holding
        assert not b.one.hub.holds("c1")


async def test_a_stream_without_a_push_stays_on_an_older_node_while_its_heartbeat_continues(tmp_path: Path) -> None:
    clocks = Clocks()
    async with gateway(tmp_path, "a") as a, gateway(tmp_path, "b", clocks) as b:
        del a.operations["held"]
        await a.push()
        for beat in (5, 6):
            await b.registry.beat(Node("a", NodeRole.GATEWAY, f"127.0.0.1:{a.one.port}", beat))
            assert await b.hold() is None
            clocks.monotonic += 15
        assert await b.hold() is not None


async def test_a_stream_without_a_push_waits_for_a_living_node_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cluster.members.node_requests._HELD_SECONDS", 0.05)
    clocks = Clocks()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with gateway(tmp_path, "b", clocks) as b:
            await b.registry.join(Node("a", NodeRole.GATEWAY, address, 5))
            await b.registry.claim(StreamClaim("c1", "a", address, "old", 1.0), {})
            with pytest.raises(AtCapacity):
                await b.hold()
            clocks.monotonic += 15
            assert await b.hold() is not None


async def test_the_successor_of_a_node_that_left_continues_its_numbers(tmp_path: Path) -> None:
    clocks = Clocks()
    async with gateway(tmp_path, "a", clocks) as a, gateway(tmp_path, "b", clocks) as b:
        await a.live()
        a.one.hub.drain()

        async def left() -> None:
            while not (held := await a.registry.claim_of("c1")) or not held.left:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(left(), at_most(5))
        clocks.wall += 100
        assert (await b.live()).stream.spec.first_number == 160


async def test_without_the_registry_new_pushes_are_refused_and_running_ones_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, "a") as a:
        publisher = await a.live()

        async def away(*args: object, **more: object) -> None:
            raise StoreUnavailable("gone")

        for method in ("claim_of", "claim", "find", "release"):
            monkeypatch.setattr(a.registry, method, away)
        with pytest.raises(StoreUnavailable):
            await a.push("c2")
        with pytest.raises(StoreUnavailable):
            await a.claims._verify()
        assert publisher.active
        publisher.close()
        again = await a.live()  # it lingers here: nobody need be asked
        assert again.active


async def test_a_deleted_claim_is_made_again(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        await a.registry.release("c1", holding.id)
        await a.claims._verify()
        assert await a.registry.claim_of("c1") == holding


async def test_a_node_that_has_lost_its_claim_ends_the_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        await a.registry.claim(StreamClaim("c1", "b", "127.0.0.1:1", "new", 1.0), {}, replaces=holding.id)
        await a.claims._verify()
        assert a.evicted == [EndReason.MOVED]
        assert not a.one.hub.holds("c1")
        await until(lambda: len(a.claims) == 0)
        now = await a.registry.claim_of("c1")
        assert now is not None
        assert now.node == "b"


# ---- what the row tells ----


class Gate:
    """A registry's `claim` that waits; `reached` is set by the first call."""

    def __init__(self, registry: SqliteRegistry) -> None:
        self._claim = registry.claim
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self.calls = 0

    async def __call__(self, *args: Any, **more: Any) -> None:
        self.calls += 1
        self.reached.set()
        await self.opened.wait()
        await self._claim(*args, **more)


async def told(gateway: Gateway, *tasks: str) -> None:
    """Reports these tasks for channel c1."""
    gateway.tasks = list(tasks)
    gateway.claims.rewrite_row("c1")


async def row_tells(gateway: Gateway, *tasks: str) -> None:
    async with asyncio.timeout(at_most(5)):
        while (row := await gateway.row()) is None or row["taskARN"] != list(tasks):
            await asyncio.sleep(0.005)


async def test_changes_of_tasks_update_the_row_and_keep_the_claim(tmp_path: Path) -> None:
    clocks = Clocks()
    async with gateway(tmp_path, "a", clocks) as a:
        await a.live()
        before, began = await a.registry.claim_of("c1"), clocks.wall
        clocks.wall += 60
        for tasks in (("arn:1",), ("arn:1", "arn:2"), ()):
            await told(a, *tasks)
            await row_tells(a, *tasks)
        assert await a.registry.claim_of("c1") == before
        row = await a.row()
        assert row is not None
        assert row["started"] == began


async def test_changes_during_a_write_of_the_row_are_written_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        gate = Gate(a.registry)
        monkeypatch.setattr(a.registry, "claim", gate)
        await told(a, "arn:1")
        await gate.reached.wait()
        for n in range(2, 50):
            await told(a, f"arn:{n}")
        gate.opened.set()
        await row_tells(a, "arn:49")
        assert gate.calls == 2, "many changes are one write"


async def test_no_row_is_written_for_a_stream_of_another_node(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live("c2")
        await told(a, "arn:1")
        await told(a, "arn:2")
        a.claims.rewrite_row("c2")
        async with asyncio.timeout(at_most(5)):
            while (row := await a.row("c2")) is None or row["taskARN"] != ["arn:2"]:
                await asyncio.sleep(0.005)
        assert await a.row("c1") is None


@pytest.mark.parametrize("reason", [EndReason.KICKED, EndReason.SHUTDOWN, EndReason.MOVED])
async def test_a_write_in_progress_does_not_restore_a_removed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: EndReason
) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        gate = Gate(a.registry)
        monkeypatch.setattr(a.registry, "claim", gate)
        await told(a, "arn:1")
        await gate.reached.wait()
        a.one.hub.end("c1", reason)
        await told(a, "arn:2")
        if reason is EndReason.MOVED:
            await a.registry.release("c1", holding.id)  # of the other node, whose stream has ended since
        gate.opened.set()
        await a.claims.tasks.start(settled(a), "all writes")
        stands = await a.registry.claim_of("c1")
        assert (stands is not None and stands.left) if reason is EndReason.SHUTDOWN else stands is None
        assert gate.calls == 1


async def settled(gateway: Gateway) -> None:
    """Waits until the tasks of the claims have ended, except look-ups, forwards and this one."""
    async with asyncio.timeout(at_most(5)):
        while len(gateway.claims.tasks) > 3:
            await asyncio.sleep(0.005)


async def test_a_row_that_could_not_be_written_is_written_at_the_next_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        failed = asyncio.Event()

        async def away(*args: object, **more: object) -> None:
            failed.set()
            raise StoreUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(a.registry, "claim", away)
            await told(a, "arn:1")
            await failed.wait()
            await told(a, "arn:2")
        await a.claims._verify()
        await row_tells(a, "arn:2")


@pytest.mark.parametrize("fault", ["stood still", "registry away"])
async def test_a_lost_claim_is_noticed_soon_after_the_fault_by_which_it_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("gateway.cluster.streams.claims._CHECK_SECONDS", 0.001)
    clocks = Clocks()
    async with gateway(tmp_path, "a", clocks) as a, Tasks("test") as tasks:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        tasks.start(a.claims.run())
        asked, find = asyncio.Event(), a.registry.find

        async def away(*args: object) -> None:
            asked.set()
            raise StoreUnavailable("gone")

        def after(seconds: float, condition: Callable[[], bool]) -> bool:
            clocks.monotonic += seconds
            return condition()

        if fault == "registry away":
            monkeypatch.setattr(a.registry, "find", away)
            await until(lambda: after(8, asked.is_set))
        await a.registry.claim(StreamClaim("c1", "b", "127.0.0.1:1", "new", 1.0), {}, replaces=holding.id)
        monkeypatch.setattr(a.registry, "find", find)
        # 0.002: the next check comes, and the next verification is far away
        step = 0.002 if fault == "registry away" else 8
        await until(lambda: after(step, lambda: a.evicted == [EndReason.MOVED]))


async def test_a_row_of_another_node_is_not_overwritten(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        holding = await a.registry.claim_of("c1")
        assert holding is not None
        other = StreamClaim("c1", "b", "127.0.0.1:1", "new", 1.0)
        await a.registry.claim(other, {}, replaces=holding.id)
        await told(a, "arn:1")
        await until(lambda: a.evicted == [EndReason.MOVED])
        assert await a.registry.claim_of("c1") == other


async def test_the_claim_follows_the_cluster_flag_of_a_changed_channel(tmp_path: Path) -> None:
    async with gateway(tmp_path, "a") as a:
        await a.live()
        for flag in (True, False):
            a.one.hub.channel_changed(channel("c1", isCluster=flag))
            await told(a, f"arn:{flag}")
            await row_tells(a, f"arn:{flag}")
            holding = await a.registry.claim_of("c1")
            assert holding is not None
            assert holding.cluster is flag
