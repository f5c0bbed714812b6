"""Sums: what all workers of a host measure together, also those that are gone; asked of each over its Unix socket."""

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

from gateway.hub.errors import HubError
from gateway.lib.measured import Measured
from gateway.lib.metrics import PROCESSES, Metrics
from gateway.nodes.host import SOCKET, Slot
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place
from gateway.servers.request import Request
from gateway.servers.response import JSON, Response

log = structlog.get_logger(__name__)

OPERATION: Final = "metrics"
TARGET: Final = f"/_node/.node/{OPERATION}"
ASK_SECONDS: Final = 2.0
_KEPT: Final = ".counters"
_GONE: Final = "gone" + _KEPT
_LOCK: Final = "gone.lock"
_MOST_FILES: Final = 16  # of workers that are gone, before they become one
_MOST_BYTES: Final = 4_000_000


class Sums:
    """A scrape of one worker shows all. metrics: this one's.

    What a worker tells it has written down before, beside its socket: so no counter goes back where a worker dies, is
    replaced or does not answer in time, whichever of them is asked next.
    """

    def __init__(self, slot: Slot, metrics: Metrics, peers: Peers) -> None:
        self._slot = slot
        self._metrics = metrics
        self._peers = peers

    async def operate(self, request: Request, rest: str) -> Response:
        """An Operation: what this worker measured, for a sibling."""
        return Response(200, (await self._own()).encode(), JSON)

    async def keep(self) -> None:
        """The last word of a worker that ends."""
        await self._own()

    async def __call__(self) -> Measured:
        """Of all workers together; those that do not answer within ASK_SECONDS count as silent."""
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

    async def _own(self) -> Measured:
        measured = Measured.of(self._metrics, self._slot.name)
        await asyncio.to_thread(_write, self._slot.folder / f"{self._slot.id}{_KEPT}", measured.grown().encode())
        return measured

    async def _answer(self, id: str, path: str) -> Measured | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return Measured.decode(await self._asked(Place(id, f"unix:{path}")))
        except TimeoutError:
            log.warning("a sibling does not tell what it measures", node=id, reason=f"silent for {ASK_SECONDS:.0f} s")
        except (HubError, ValueError) as error:
            log.warning("a sibling does not tell what it measures", node=id, reason=str(error))
        return None

    async def _asked(self, place: Place) -> bytes:
        text = b""
        async with self._peers.request(place, "GET", TARGET, seconds=ASK_SECONDS) as response:
            while piece := await response.content.readany():
                text += piece
                if len(text) > _MOST_BYTES:
                    raise ValueError("more than a process can measure")
            if response.status != 200:
                raise ValueError(f"status {response.status}")
        return text

    def _left(self, answered: set[str]) -> Measured:
        """What is written down of all that did not answer now. Blocks."""
        folder, total = self._slot.folder, Measured()
        with _locked(folder / _LOCK):
            gone = _read(folder / _GONE)
            merged = set(gone.names)
            total.add(gone.measured)
            over: dict[str, Measured] = {}
            for path in sorted(folder.glob(f"{self._slot.host}.*{_KEPT}")):
                id = path.name.removesuffix(_KEPT)
                if id in merged:
                    path.unlink(missing_ok=True)  # whoever merged it died before
                if id in answered or id == self._slot.id or id in merged:
                    continue
                measured = _read(path).measured
                total.add(measured)
                if not (folder / f"{id}{SOCKET}").exists():
                    over[id] = measured
            if len(over) > _MOST_FILES:
                self._merge(gone, over)
        return total

    def _merge(self, gone: _Kept, over: Mapping[str, Measured]) -> None:
        """Files of the dead become one; told by name what is in it, so that a death half-way counts nothing twice."""
        folder = self._slot.folder
        for measured in over.values():
            gone.measured.add(measured)
        _write(folder / _GONE, gone.measured.encode(), sorted(over))
        for id in over:
            (folder / f"{id}{_KEPT}").unlink(missing_ok=True)


@dataclass(slots=True)
class _Kept:
    names: Sequence[str]
    measured: Measured


def _read(path: Path) -> _Kept:
    """Nothing where there is nothing that makes sense."""
    try:
        with path.open("rb") as file:
            names, _, text = file.read(_MOST_BYTES).partition(b"\n")
        return _Kept(list(map(str, json.loads(names))), Measured.decode(text))
    except FileNotFoundError:
        return _Kept((), Measured())
    except (OSError, ValueError, TypeError) as error:
        log.warning("what a worker counted cannot be read", file=path.name, reason=str(error))
        return _Kept((), Measured())


def _write(path: Path, text: bytes, names: Sequence[str] = ()) -> None:
    """Whole or not at all; a disk that is full costs nothing but this."""
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
