"""Runs a gateway, and writes what it asks the registry, what it is told, and which streams it has.

    python -m bench.claims.witness FILE SECONDS serve

FILE gets one JSON object a line, each by one `write`: a kill loses none that was written. SECONDS are added to the
time of day of this process, before anything reads it. The gateway is the real one; methods of its registry and of its
hub are wrapped.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import runpy
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

BROKEN = "BENCH_BROKEN_REGISTRY"  # variable of the environment: see `break_registry`
_numbers = itertools.count(1)


class Witness:
    """Appends events to a file."""

    def __init__(self, file: str) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **values: Any) -> None:
        line = json.dumps({"time": time.clock_gettime(time.CLOCK_MONOTONIC), "what": what} | values)
        os.write(self._file, f"{line}\n".encode())


def shift_time_of_day(seconds: float) -> None:
    """Adds seconds to `time.time` and `time.time_ns`. Call it before other modules take these functions."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def watch_registry(witness: Witness) -> None:
    """Wraps the methods that claim, release and read one claim."""
    from gateway.adapters.sql.registry import RegistryRows
    from gateway.ports.errors import HeldByOtherNode

    async def told(asked: Mapping[str, Any], call: Awaitable[Any]) -> Any:
        number = next(_numbers)
        witness.write("asked", number=number, **asked)
        result, found = "unknown", ""
        try:
            answer = await call
            result, found = "ok", getattr(answer, "id", "")
            return answer
        except HeldByOtherNode as error:
            result, found = "held", error.claim.id
            raise
        finally:
            witness.write("answered", number=number, result=result, found=found)

    claim, release, claim_of = RegistryRows.claim, RegistryRows.release, RegistryRows.claim_of

    @functools.wraps(claim)
    async def watched_claim(self: Any, row: Any, item: Any, replaces: str = "") -> None:
        asked = {"kind": "claim", "node": row.node, "stream": row.stream, "claim": row.id}
        await told(asked | {"replaces": replaces, "left": row.left}, claim(self, row, item, replaces))

    @functools.wraps(release)
    async def watched_release(self: Any, stream: str, id: str, *, left: bool = False) -> None:
        asked = {"kind": "release", "node": "", "stream": stream, "claim": id, "replaces": "", "left": left}
        await told(asked, release(self, stream, id, left=left))

    @functools.wraps(claim_of)
    async def watched_read(self: Any, stream: str) -> Any:
        return await told({"kind": "read", "stream": stream}, claim_of(self, stream))

    RegistryRows.claim = watched_claim  # type: ignore[method-assign]
    RegistryRows.release = watched_release  # type: ignore[method-assign]
    RegistryRows.claim_of = watched_read  # type: ignore[method-assign]


def break_registry() -> None:
    """Lets every claim succeed, whatever is stored: a proof that the checker finds a wrong registry."""
    from gateway.adapters.sql import registry

    registry._CLAIM = f"{registry._CLAIM.partition('WHERE')[0]} WHERE TRUE OR '' = ?"  # type: ignore[misc]


def watch_streams(witness: Witness) -> None:
    """Wraps the making of streams in the hub that has players. The hub of forwarded pushes is not one."""
    from gateway.live.hub import Hub

    make: Callable[..., Any] = Hub._make_stream

    @functools.wraps(make)
    def watched_make(self: Any, channel: Any, spec: Any) -> Any:
        stream = make(self, channel, spec)
        if self._renditions and spec.name == channel.id:
            number = next(_numbers)
            witness.write("began", number=number, stream=spec.name)
            stream.when_ended(lambda reason: witness.write("ended", number=number, reason=str(reason)))
        return stream

    Hub._make_stream = watched_make  # type: ignore[method-assign]


def main() -> None:
    file, seconds, *arguments = sys.argv[1:]
    shift_time_of_day(float(seconds))
    witness = Witness(file)
    if BROKEN in os.environ:
        break_registry()
    watch_registry(witness)
    watch_streams(witness)
    sys.argv = ["gateway", *arguments]
    runpy.run_module("gateway", run_name="__main__")


if __name__ == "__main__":
    main()
