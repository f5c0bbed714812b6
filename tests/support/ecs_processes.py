"""Runs tasks of the ECS double as local processes with the command and environment of the container image."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[2]


class Containers:
    """A `Launch` of the double. definition: the environment of the task definition.

    The entry point of the image is `millrace`, and its default command is `worker`.
    """

    def __init__(self, folder: Path, definition: Mapping[str, str]) -> None:
        self._folder = folder
        self.definition = dict(definition)
        self._started = 0
        self.processes: list[Process] = []
        self.codes: list[int] = []

    @property
    def running(self) -> list[Process]:
        return [process for process in self.processes if process.returncode is None]

    def log(self) -> str:
        """The output of all processes."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("task-*.log")))

    async def __call__(self, environment: Mapping[str, str], command: list[str]) -> None:
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("MILLRACE_", "AWS_"))}
        self._started += 1
        with (self._folder / f"task-{self._started}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", *(command or ["worker"])),
                env=kept | self.definition | dict(environment),
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )
        self.processes.append(process)
        try:
            await process.wait()
        except asyncio.CancelledError:  # StopTask: SIGTERM, and in the end SIGKILL
            # The process's own `send_signal` would also collect its exit code, if it ends now: asyncio then reads 255.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(at_most(20)):
                    await process.wait()
            raise
        finally:
            if process.returncode is None:  # the process does not end, or this task was canceled again
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            self.codes.append(process.returncode if process.returncode is not None else -1)
