"""Sums the metrics of all workers of a host, also of ended ones. Asks each worker over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.cluster.node_address import NodeAddress
from gateway.cluster.peers import Peers
from gateway.cluster.worker_slot import SOCKET, WorkerSlot
from gateway.http.request import Request
from gateway.http.response import JSON, Response
from gateway.lib.metric_table import PROCESSES
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)

OPERATION: Final = "metrics"
TARGET: Final = f"/_node/.node/{OPERATION}"
ASK_SECONDS: Final = 2.0
_KEPT: Final = ".counters"
_GONE: Final = "gone" + _KEPT
_LOCK: Final = "gone.lock"
_MAX_FILES: Final = 16  # of ended workers; more are merged into one file
_MAX_BYTES: Final = 4_000_000


class MetricsAggregator:
    """Makes a scrape of one worker show the metrics of all workers. metrics: those of this worker.

    A worker writes its counters to a file beside its socket before it reports them. So no counter decreases when a
    worker dies, is replaced or does not answer in time, whichever worker is scraped next.
    """

    def __init__(self, slot: WorkerSlot, metrics: Metrics, peers: Peers) -> None:
        self._slot = slot
        self._metrics = metrics
        self._peers = peers

    async def operate(self, request: Request, rest: str) -> Response:
        """Answers a sibling with this worker's metrics. An Operation of NodeEndpoint."""
        return Response(200, (await self._own()).encode(), JSON)

    async def keep(self) -> None:
        """Writes the counters at the end of this worker."""
        await self._own()

    async def __call__(self) -> MetricsSnapshot:
        """Returns the sum over all workers. A worker that does not answer within ASK_SECONDS counts as silent."""
        total = await self._own()
        siblings = self._slot.siblings()
        answers = await asyncio.gather(*(self._answer(id, path) for id, path in siblings.items()))
        answered = {id for id, answer in zip(siblings, answers, strict=True) if answer is not None}
        for answer in answers:
            if answer is not None:
                total.add(answer)
        total.add(await asyncio.to_thread(self._left, answered))
        total.put(PROCESSES, 1 + len(answered), ("summed",))
        total.put(PROCESSES, len(siblings) - len(answered), ("silent",))
        return total

    # ---- details ----

    async def _own(self) -> MetricsSnapshot:
        measured = self._metrics.snapshot(self._slot.name)
        await asyncio.to_thread(
            _write, self._slot.folder / f"{self._slot.id}{_KEPT}", measured.cumulative_metrics().encode()
        )
        return measured

    async def _answer(self, id: str, path: str) -> MetricsSnapshot | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return MetricsSnapshot.decode(await self._asked(NodeAddress(id, f"unix:{path}")))
        except TimeoutError:
            log.warning("a sibling does not tell what it measures", node=id, reason=f"silent for {ASK_SECONDS:.0f} s")
        except (GatewayError, ValueError) as error:
            log.warning("a sibling does not tell what it measures", node=id, reason=str(error))
        return None

    async def _asked(self, place: NodeAddress) -> bytes:
        text = b""
        async with self._peers.request(place, "GET", TARGET, seconds=ASK_SECONDS) as response:
            while piece := await response.content.readany():
                text += piece
                if len(text) > _MAX_BYTES:
                    raise ValueError("more than a process can measure")
            if response.status != 200:
                raise ValueError(f"status {response.status}")
        return text

    def _left(self, answered: set[str]) -> MetricsSnapshot:
        """Returns the sum of the written counters of all workers that did not answer. Blocks."""
        folder, total = self._slot.folder, MetricsSnapshot()
        with _locked(folder / _LOCK):
            gone = _read(folder / _GONE)
            merged = set(gone.names)
            total.add(gone.measured)
            over: dict[str, MetricsSnapshot] = {}
            for path in sorted(folder.glob(f"{self._slot.host}.*{_KEPT}")):
                id = path.name.removesuffix(_KEPT)
                if id in merged:
                    path.unlink(missing_ok=True)  # the process that merged it died before deleting it
                if id in answered or id == self._slot.id or id in merged:
                    continue
                measured = _read(path).measured
                total.add(measured)
                if not (folder / f"{id}{SOCKET}").exists():
                    over[id] = measured
            if len(over) > _MAX_FILES:
                self._merge(gone, over)
        return total

    def _merge(self, gone: _SavedCounters, over: Mapping[str, MetricsSnapshot]) -> None:
        """Merges the files of ended workers into one.

        The merged file lists the workers in it. So if this process dies before it deletes their files, nothing is
        counted twice.
        """
        folder = self._slot.folder
        for measured in over.values():
            gone.measured.add(measured)
        _write(folder / _GONE, gone.measured.encode(), sorted(over))
        for id in over:
            (folder / f"{id}{_KEPT}").unlink(missing_ok=True)


@dataclass(slots=True)
class _SavedCounters:
    names: Sequence[str]
    measured: MetricsSnapshot


def _read(path: Path) -> _SavedCounters:
    """Reads a file of counters. Returns empty counters if it is missing or damaged."""
    try:
        with path.open("rb") as file:
            names, _, text = file.read(_MAX_BYTES).partition(b"\n")
        return _SavedCounters(list(map(str, json.loads(names))), MetricsSnapshot.decode(text))
    except FileNotFoundError:
        return _SavedCounters((), MetricsSnapshot())
    except (OSError, ValueError, TypeError) as error:
        log.warning("what a worker counted cannot be read", file=path.name, reason=str(error))
        return _SavedCounters((), MetricsSnapshot())


def _write(path: Path, text: bytes, names: Sequence[str] = ()) -> None:
    """Writes a file of counters, completely or not at all. Only logs an error of the disk."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        unfinished.write_bytes(json.dumps(list(names)).encode() + b"\n" + text)
        unfinished.replace(path)
    except OSError as error:
        log.warning("what this process counted cannot be kept", file=path.name, reason=error.strerror)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
