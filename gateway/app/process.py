"""Starts the event loop of a process, and prints one line for an error that the operator must fix."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from gateway.lib import log as logs
from gateway.lib.redact import mask
from gateway.lib.sockets import ListenError
from gateway.lib.tuning import make_files_private
from gateway.ports.errors import GatewayError
from gateway.processes.worker_link import WorkerLink
from gateway.settings import Settings


def run(
    settings: Settings,
    work: Callable[[], Coroutine[Any, Any, int]],
    link: WorkerLink | None = None,
    lock: AbstractContextManager[None] | None = None,
) -> int:
    """Runs `work` in a new event loop. Returns the exit code.

    An error that the operator must fix is printed as one line on stderr, and the exit code is 1. Examples are a port in
    use and an unusable store.

    link: this process's link to its master; None: a single process. lock: entered while the loop runs; None: no lock.
    """
    make_files_private()
    logs.configure(settings.log.level, settings.log.format, fields={"process": link.slot.name} if link else None)
    try:
        import uvloop

        with lock or nullcontext(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work())
    except (GatewayError, ListenError, OSError) as error:
        print(mask(f"millrace: {error}"), file=sys.stderr)  # noqa: T201
        return 1
