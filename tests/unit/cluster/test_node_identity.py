"""The processes of one host share their ports: they find each other, and themselves, by Unix sockets."""

from pathlib import Path

from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.node_identity import NodeIdentity
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.ports.cluster_secret import ClusterSecret
from tests.support.clock import Clock
from tests.unit.cluster.test_registry_locator import Rows, holding, locating


def process(folder: Path, number: int, start: int = 1) -> NodeIdentity:
    slot = WorkerSlot("host", number, start, 2, folder, "")
    slot.socket.touch()
    return NodeIdentity.of(slot, ClusterSecret("secret"))


async def test_a_process_reaches_its_own_stream_by_its_socket(tmp_path: Path) -> None:
    one, _ = process(tmp_path, 1), process(tmp_path, 2)
    async with locating(Rows(), Clock(1000.0), one.sockets()) as locator:
        locator.put(holding("c1", node="host.1"))
        assert await locator.find("c1") == NodeAddress("host.1", f"unix:{tmp_path}/host.1.sock", "k1")
        assert await one.sibling_with("c1", locator) is None


async def test_a_process_finds_the_sibling_that_has_taken_over_a_stream_at_once(tmp_path: Path) -> None:
    new = process(tmp_path, 2, start=2)
    process(tmp_path, 1)
    rows = Rows(holding("c1", node="host.2"))  # the process before, which died
    async with locating(rows, Clock(1000.0), new.sockets()) as locator:
        assert await new.sibling_with("c1", locator) is None
        rows.held["c1"] = holding("c1", "k2", node="host.1")
        assert await new.sibling_with("c1", locator) == NodeAddress("host.1", f"unix:{tmp_path}/host.1.sock", "k2")
        assert await new.sibling_with("c1", locator) is not None
    assert len(rows.requests) == 2


async def test_a_single_process_has_no_siblings() -> None:
    alone = NodeIdentity.of(None, ClusterSecret("secret"))
    rows = Rows(holding("c1"))
    async with locating(rows, Clock(1000.0), alone.sockets()) as locator:
        assert await alone.sibling_with("c1", locator) is None
    assert not rows.requests
