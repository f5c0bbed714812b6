"""CommandEngine: a program of the operator as a child of the worker. It reads sound, and writes lines with words."""

import fcntl
import os
import shlex
import subprocess
import time
from contextlib import suppress
from typing import Final

from gateway.lib.process import describe_exit
from gateway.workers.programs import program
from gateway.workers.programs.speech.engine import Deliver, EngineUnusable
from gateway.workers.speech_lines import SpeechLineReader

_PIPE_BYTES: Final = 16_384  # half a second of sound: more would hide how late the program is
_READ_BYTES: Final = 1 << 16


class CommandEngine:
    """Runs a program until the worker ends. The worker ends with it, too. dropped: see SpeechLineReader."""

    def __init__(self, argument: str, deliver: Deliver) -> None:
        command = shlex.split(argument)
        try:
            self._child = subprocess.Popen(  # noqa: S603 the operator's setting
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=program.die_with_parent,  # the worker has only this thread
            )
        except OSError as error:
            raise EngineUnusable(f"{command[0]} cannot be started: {error.strerror or error}") from None
        assert self._child.stdin is not None and self._child.stdout is not None
        self._sound, self._output = self._child.stdin, self._child.stdout.fileno()
        with suppress(OSError):
            fcntl.fcntl(self._sound, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._lines = SpeechLineReader()
        self._deliver = deliver
        self._reader = program.start_thread(self._read, "lines")

    @property
    def dropped(self) -> int:
        return self._lines.dropped

    def accept(self, samples: bytes) -> None:
        try:
            self._sound.write(samples)
            self._sound.flush()
        except BrokenPipeError:
            self._reader.join()  # it ends this process when the program has ended

    def _read(self) -> None:
        while data := os.read(self._output, _READ_BYTES):
            for words in self._lines.receive(data, time.monotonic()):
                self._deliver(words)
        program.log_reason(f"the speech program {describe_exit(self._child.wait())}")
        program.exit_now(1)
