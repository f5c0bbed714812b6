"""Runs tasks of the ECS double as forked processes with the command and environment of the container image."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.fork_server import ROOT, ForkedProcess, start_command
from tests.support.time_outs import at_most


class Containers:
    """A `Launch` of the double. definition: the environment of the task definition.

    The entry point of the image is `millrace`, and its default command is `worker`.
    """

    def __init__(self, folder: Path, definition: Mapping[str, str]) -> None:
        self._folder = folder
        self.definition = dict(definition)
        self._started = 0
        self.processes: list[ForkedProcess] = []
        self.codes: list[int] = []

    @property
    def running(self) -> list[ForkedProcess]:
        return [process for process in self.processes if process.returncode is None]

    def log(self) -> str:
        """The output of all processes."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("task-*.log")))

    async def __call__(self, environment: Mapping[str, str], command: list[str]) -> None:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("MILLRACE_", "AWS_"))}
        self._started += 1
        with (self._folder / f"task-{self._started}.log").open("wb") as log:
            env = kept | self.definition | dict(environment)
            files = {1: log.fileno(), 2: log.fileno()}
            process = start_command(command or ["worker"], env, files, ROOT)
        self.processes.append(process)
        try:
            await process.end()
        except asyncio.CancelledError:  # StopTask: SIGTERM, and in the end SIGKILL
            process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most(20)):
                    await process.end()
            raise
        finally:
            if process.returncode is None:  # the process does not end, or this task was canceled again
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.end()
            self.codes.append(process.returncode if process.returncode is not None else -1)
