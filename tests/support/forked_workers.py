"""The workers of a forked master are forked too, by their own parent, which has imported the program."""

import asyncio
import json
import os
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.lib import held_signals

MAX_REQUEST = 1 << 18
_STARTED_SO = ("-P", "-m", "gateway")  # the arguments of Python with which a master starts a worker


class _ForkedWorker:
    """A child of the workers' parent with the interface of `asyncio.subprocess.Process` that a master uses."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status  # a pipe: its return code, at its end
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(status, self._read_status)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, 9)

    def _read_status(self) -> None:
        asyncio.get_running_loop().remove_reader(self._status)
        self.returncode = int(os.read(self._status, 16))
        os.close(self._status)
        self._ended.set()


def fork_workers(answer: Callable[[socket.socket], None]) -> Callable[[], None]:
    """Forks the parent of the workers from this process, which becomes their master. Returns a function that ends it.

    answer: answers the requests of the master, and returns at its end.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            held_signals.hold()  # workers begin so, and a signal to the whole process group does not end their parent
            answer(theirs)
        finally:
            os._exit(0)
    theirs.close()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST)
    execute = asyncio.create_subprocess_exec

    async def start(
        python: str, *arguments: str, pass_fds: Sequence[int] = (), env: Mapping[str, str], **more: Any
    ) -> Process | _ForkedWorker:
        if arguments[:3] != _STARTED_SO:
            return await execute(python, *arguments, pass_fds=pass_fds, env=env, **more)
        request = {"program": arguments[2:], "env": dict(env), "leads": False, "files": list(pass_fds)}
        return _ForkedWorker(*ask(ours, request, pass_fds))

    def end() -> None:
        ours.close()
        os.waitpid(pid, 0)  # so that the CPU time of the workers is counted

    asyncio.create_subprocess_exec = start  # type: ignore[assignment]
    return end


def ask(server: socket.socket, request: Mapping[str, Any], files: Sequence[int]) -> tuple[int, int]:
    """Asks for a child that has these files. Returns its pid, and a pipe that says its return code at its end."""
    status, theirs = os.pipe()
    try:
        socket.send_fds(server, [json.dumps(request).encode()], [theirs, *files])
    finally:
        os.close(theirs)
    answer = server.recv(16)
    assert answer, "the fork server has ended"
    return int(answer), status
