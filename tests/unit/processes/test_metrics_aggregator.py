"""One scrape covers all workers of a host: running, silent and dead ones."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.http.request import Request
from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.processes import metrics_aggregator
from gateway.processes.metrics_aggregator import TARGET, MetricsAggregator
from tests.support.time_outs import at_most

HOST = "0a1b2c3d"


class _Body:
    def __init__(self, text: bytes) -> None:
        self._pieces = [text[:7], text[7:], b""]

    async def readany(self) -> bytes:
        return self._pieces.pop(0)


class _Answer:
    def __init__(self, text: bytes, status: int = 200) -> None:
        self.status = status
        self.content = _Body(text)


class Wire:
    """Replaces `Peers`: returns the answer of each worker by its node id."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}

    @contextlib.asynccontextmanager
    async def request(self, place: NodeAddress, method: str, target: str, *, seconds: float) -> AsyncIterator[_Answer]:
        assert (method, target) == ("GET", TARGET)
        worker = self.workers[place.id]
        if worker.hangs:
            await asyncio.get_running_loop().create_future()
        if worker.dead:
            raise PeerUnavailable(place, "refused", refused=True)
        answer = await worker.sums.operate(None, "")  # type: ignore[arg-type]
        assert isinstance(answer.body, bytes)
        yield _Answer(worker.says or answer.body)


class Worker:
    """A worker of the host. sent: its counter; viewers: its gauge."""

    def __init__(self, folder: Path, wire: Wire, number: int, start: int = 1) -> None:
        self.slot = WorkerSlot(HOST, number, start, 4, folder, "")
        self.sent, self.viewers = 0, 0
        self.dead = self.hangs = False
        self.says = b""
        measured = Metrics("1")
        measured.read_from(
            lambda: [
                MetricSample(metric_table.BYTES_OUT, self.sent, ("flv",)),
                MetricSample(metric_table.VIEWERS, self.viewers, ("flv",)),
            ]
        )
        self.sums = MetricsAggregator(self.slot, measured, wire)  # type: ignore[arg-type]
        wire.workers[self.slot.id] = self
        self.slot.socket.touch()

    def end(self) -> None:
        """Ends the worker and removes its socket, as the master does."""
        self.dead = True
        self.slot.socket.unlink()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Worker]:
    wire = Wire()
    return lambda number, start=1: Worker(tmp_path, wire, number, start)


def of(measured: MetricsSnapshot) -> tuple[float, float, Mapping[str, float]]:
    """Bytes sent, viewers, and processes by state."""
    values = measured.values
    states = {labels[0]: value for labels, value in values[metric_table.PROCESSES.name].items()}
    return values[metric_table.BYTES_OUT.name]["flv",], values[metric_table.VIEWERS.name]["flv",], states


async def test_a_scrape_of_one_worker_shows_all_workers(make: Callable[..., Worker]):
    one, two, three = make(1), make(2), make(3)
    for n, worker in enumerate((one, two, three), 1):
        worker.sent, worker.viewers = 100 * n, n
    for worker in (one, two, three):
        assert of(await worker.sums()) == (600, 6, {"summed": 3, "silent": 0})


async def test_counters_of_a_worker_that_died_stay_in_the_sum(make: Callable[..., Worker]):
    one, two = make(1), make(2)
    two.sent, two.viewers = 500, 5
    await one.sums()
    two.end()
    assert of(await one.sums()) == (500, 0, {"summed": 1, "silent": 0})
    fresh = make(2, 2)
    fresh.sent = 10
    assert of(await one.sums()) == (510, 0, {"summed": 2, "silent": 0})


async def test_counters_of_dead_workers_survive_the_aggregating_worker(make: Callable[..., Worker]):
    one, two = make(1), make(2)
    one.sent, two.sent = 30, 500
    assert of(await one.sums())[0] == 530
    one.end()
    two.end()
    fresh = make(1, 2)
    assert of(await fresh.sums())[0] == 530


async def test_the_last_counters_of_an_ending_worker_count(make: Callable[..., Worker]):
    one, two = make(1), make(2)
    two.sent = 7
    await two.sums.save_counters()
    two.end()
    assert of(await one.sums())[0] == 7


async def test_a_silent_worker_keeps_only_its_last_counters_in_the_sum(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metrics_aggregator, "REQUEST_SECONDS", at_most(0.5))
    one, two = make(1), make(2)
    two.sent, two.viewers = 500, 5
    await one.sums()
    two.hangs = True
    two.sent = 900
    assert of(await one.sums()) == (500, 0, {"summed": 1, "silent": 1})
    two.hangs = False
    monkeypatch.setattr(metrics_aggregator, "REQUEST_SECONDS", at_most(10))
    assert of(await one.sums()) == (900, 5, {"summed": 2, "silent": 0})


@pytest.mark.parametrize("said", [b"no measurements", b"{}", b"x" * 5_000_000])
async def test_a_worker_with_an_invalid_answer_counts_as_silent(make: Callable[..., Worker], said: bytes):
    one, two = make(1), make(2)
    two.says = said
    assert of(await one.sums())[2] == {"summed": 1, "silent": 1}


async def test_counter_files_of_dead_workers_are_merged_without_double_counting(
    make: Callable[..., Worker], tmp_path: Path
):
    one = make(1)
    one.sent = 1
    for start in range(1, 41):
        worker = make(2, start)
        worker.sent = 10
        assert of(await one.sums())[0] == 1 + 10 * start
        worker.end()
        assert of(await one.sums())[0] == 1 + 10 * start
    assert len(list(tmp_path.glob(f"{HOST}.2*.counters"))) <= 17


async def test_a_crash_while_merging_counter_files_counts_nothing_twice(
    make: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = make(1)
    for start in range(1, 20):
        worker = make(2, start)
        worker.sent = 10
        await worker.sums.save_counters()
        worker.end()
    unlink = Path.unlink

    def dies(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".counters":
            raise RuntimeError("killed here")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(RuntimeError):
        await one.sums()
    monkeypatch.undo()
    assert of(await one.sums())[0] == 190
    assert of(await one.sums())[0] == 190


async def test_an_invalid_counter_file_is_ignored(make: Callable[..., Worker], tmp_path: Path):
    one, two = make(1), make(2)
    one.sent = 5
    two.end()
    (tmp_path / f"{HOST}.2.counters").write_bytes(b'["x"]\n{"values":7}')
    (tmp_path / "gone.counters").write_bytes(b"\xff\n")
    assert of(await one.sums())[0] == 5


async def test_the_answer_to_siblings_is_json(make: Callable[..., Worker]):
    one = make(1)
    request: Any = Request
    answer = await one.sums.operate(request, "")
    assert isinstance(answer.body, bytes)
    assert set(json.loads(answer.body)) == {"values", "rows", "processes"}
