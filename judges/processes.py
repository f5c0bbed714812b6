"""Processes that the suite starts, each in a session of its own, so that all of them end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping

STOP_SECONDS = 5.0


class Processes:
    """Starts processes and ends those that are left; may be used by several threads."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts a process whose output is kept. Raises OSError, also once everything was ended."""
        with self._lock:
            if self._closed:
                raise OSError("the suite ends")
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def run(
        self, command: list[str], seconds: float, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a process to its end. Raises TimeoutExpired after so many seconds, when the process has been ended."""
        process = self.start(command, environment)
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            self.kill(process)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Ends a process and everything in its session at once; harmless when repeated."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
        with self._lock:
            self._running.discard(process)

    def kill_all(self) -> None:
        """Ends whatever still runs; nothing is started afterwards."""
        with self._lock:
            self._closed, left = True, list(self._running)
        for process in left:
            self.kill(process)
