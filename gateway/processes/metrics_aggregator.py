"""Sums the metrics of all workers of a host, including ended ones. Requests them from each worker's Unix socket."""

import asyncio
import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.peers import Peers
from gateway.cluster.members.worker_slot import SOCKET, WorkerSlot
from gateway.http.request import Request
from gateway.http.response import JSON, Response
from gateway.lib.metric_table import PROCESSES
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.lib.whole_file import replace_file
from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)

OPERATION: Final = "metrics"
TARGET: Final = f"/_node/.node/{OPERATION}"
REQUEST_SECONDS: Final = 2.0
_COUNTERS_SUFFIX: Final = ".counters"
_ENDED_FILE: Final = "gone" + _COUNTERS_SUFFIX
_LOCK_FILE: Final = "gone.lock"
_MAX_FILES: Final = 16  # of ended workers; more are merged into one file
_MAX_BYTES: Final = 4_000_000


class MetricsAggregator:
    """Makes a scrape of one worker show the metrics of all workers. metrics: those of this worker.

    A worker writes its counters to a file beside its socket before it reports them. So counters never decrease if a
    worker dies, is replaced or does not answer in time. It does not matter which worker is scraped next.
    """

    def __init__(self, slot: WorkerSlot, metrics: Metrics, peers: Peers) -> None:
        self._slot, self._metrics, self._peers = slot, metrics, peers

    async def operate(self, request: Request, rest: str) -> Response:
        """Answers a sibling with this worker's metrics. This method is an Operation of NodeEndpoint."""
        return Response(200, (await self._own_metrics()).encode(), JSON)

    async def save_counters(self) -> None:
        """Writes the counters to the file, at the end of this worker."""
        await self._own_metrics()

    async def __call__(self) -> MetricsSnapshot:
        """Returns the sum over all workers. A worker that does not answer within REQUEST_SECONDS counts as silent."""
        total = await self._own_metrics()
        siblings = self._slot.siblings()
        answers = await asyncio.gather(*(self._answer(id, path) for id, path in siblings.items()))
        answered = {id: answer for id, answer in zip(siblings, answers, strict=True) if answer is not None}
        for answer in answered.values():
            total.add(answer)
        total.add(await asyncio.to_thread(self._saved_counters, set(answered)))
        total.put(PROCESSES, 1 + len(answered), ("summed",))
        total.put(PROCESSES, len(siblings) - len(answered), ("silent",))
        return total

    # ---- details ----

    async def _own_metrics(self) -> MetricsSnapshot:
        snapshot = self._metrics.snapshot(self._slot.name)
        path = self._slot.folder / f"{self._slot.id}{_COUNTERS_SUFFIX}"
        await asyncio.to_thread(_write, path, snapshot.cumulative_metrics().encode())
        return snapshot

    async def _answer(self, id: str, path: str) -> MetricsSnapshot | None:
        """Returns the metrics of a sibling; None if it does not answer in time, or not correctly."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return MetricsSnapshot.decode(await self._request(NodeAddress(id, f"unix:{path}")))
        except TimeoutError:
            log.warning("a sibling does not report metrics", node=id, reason=f"silent for {REQUEST_SECONDS:.0f} s")
        except (GatewayError, ValueError) as error:
            log.warning("a sibling does not report metrics", node=id, reason=str(error))
        return None

    async def _request(self, address: NodeAddress) -> bytes:
        text = b""
        async with self._peers.request(address, "GET", TARGET, seconds=REQUEST_SECONDS) as response:
            while piece := await response.content.readany():
                text += piece
                if len(text) > _MAX_BYTES:
                    raise ValueError(f"metrics of more than {_MAX_BYTES} bytes")
            if response.status != 200:
                raise ValueError(f"status {response.status}")
        return text

    def _saved_counters(self, answered: set[str]) -> MetricsSnapshot:
        """Returns the sum of the written counters of all workers that did not answer. Blocks."""
        folder, total = self._slot.folder, MetricsSnapshot()
        with _locked(folder / _LOCK_FILE):
            merged, ended = _read(folder / _ENDED_FILE)
            total.add(ended)
            unmerged: dict[str, MetricsSnapshot] = {}  # by id of an ended worker
            for path in sorted(folder.glob(f"{self._slot.host}.*{_COUNTERS_SUFFIX}")):
                id = path.name.removesuffix(_COUNTERS_SUFFIX)
                if id in merged:
                    path.unlink(missing_ok=True)  # the process that merged it died before it deleted the file
                if id in answered or id == self._slot.id or id in merged:
                    continue
                _, snapshot = _read(path)
                total.add(snapshot)
                if not (folder / f"{id}{SOCKET}").exists():
                    unmerged[id] = snapshot
            if len(unmerged) > _MAX_FILES:
                self._merge(ended, unmerged)
        return total

    def _merge(self, ended: MetricsSnapshot, unmerged: Mapping[str, MetricsSnapshot]) -> None:
        """Merges the files of ended workers into one.

        The merged file lists its workers. So nothing is counted twice if this process dies before it deletes the files.
        """
        folder = self._slot.folder
        for snapshot in unmerged.values():
            ended.add(snapshot)
        _write(folder / _ENDED_FILE, ended.encode(), sorted(unmerged))
        for id in unmerged:
            (folder / f"{id}{_COUNTERS_SUFFIX}").unlink(missing_ok=True)


def _read(path: Path) -> tuple[set[str], MetricsSnapshot]:
    """Reads a file of counters. Returns the node ids of the workers that were merged into it, and its counters.

    Returns empty counters if the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            workers, _, text = file.read(_MAX_BYTES).partition(b"\n")
        return set(map(str, json.loads(workers))), MetricsSnapshot.decode(text)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        log.warning("the counters of a worker cannot be read", file=path.name, reason=str(error))
    return set(), MetricsSnapshot()


def _write(path: Path, text: bytes, workers: Sequence[str] = ()) -> None:
    """Writes a file of counters, completely or not at all. A disk error is only logged."""
    try:
        replace_file(path, (json.dumps(list(workers)).encode(), b"\n", text))
    except OSError as error:
        log.warning("the counters of this process cannot be saved", file=path.name, reason=error.strerror)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
