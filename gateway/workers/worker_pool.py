"""Starts media workers: child processes on a socket pair, limited in number, memory and priority."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import structlog

from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings import models

log = structlog.get_logger(__name__)

# The environment variables that a worker may need. It does not get the others, above all no secrets.
_KEPT: Final = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
)
_KEPT_FAMILIES: Final = ("LC_", "PYTHON", "FONTCONFIG_", "XDG_")

_RECEIVED_MOST: Final = 4_000_000  # bytes of unread frames, beyond which reading from the worker pauses
_SENT_MOST: Final = 1 << 18  # bytes in the send buffer, beyond which `send` waits
_POLL_SECONDS: Final = 0.5  # between checks whether a worker takes frames
_LINE: Final = 300  # bytes of a line of stderr that are kept
_LINES: Final = 50  # last lines of a worker's stderr that are logged; earlier ones are only counted

Handler: TypeAlias = Callable[[bytes], "bool | None"]


class WorkerDied(OutputError):
    """A worker ended while it was needed. The message says how."""


class WorkerPool:
    """All media workers of this process.

    settings: number of workers, nice level and memory. `most`: how many may run at the same time.
    restarts: counts the workers that died, by name. The pool does not start them again; their users do.
    """

    def __init__(self, settings: models.WorkersSettings, restarts: Counter) -> None:
        self.most = settings.most or max(8, 4 * (os.cpu_count() or 1))
        self._nice = settings.nice
        self._memory = settings.memory
        self._restarts = restarts
        self._running = 0
        self._environment = _environment()

    @property
    def running(self) -> int:
        return self._running

    @asynccontextmanager
    async def start(
        self,
        module: str,
        name: str,
        *,
        stream: str = "",
        writes: bool = False,
        memory: int | None = None,
        stuck: float | None = None,
    ) -> AsyncIterator[WorkerProcess]:
        """Starts a worker with `python -m module`, and kills it at the end of the block.

        name: its task, for log and metric. stream: for the log. writes: whether it may write files.
        memory: bytes that it may allocate, 0 for no limit; None: the limit of the settings.
        stuck: seconds after which a worker that takes no frames is ended; None: never.
        Raises OutputError if `most` workers run already or if the process cannot be started.
        """
        if self._running >= self.most:
            raise OutputError(f"all {self.most} media workers are busy (workers.most)")
        self._running += 1
        try:
            ours, theirs = socket.socketpair()
            with ours:
                try:
                    process = await self._spawn(module, theirs.fileno(), writes, memory)
                except OSError as error:
                    raise OutputError(f"no media worker can be started: {error.strerror or error}") from error
                finally:
                    theirs.close()
                worker = WorkerProcess(process, name, stream)
                try:
                    # The transport owns and closes its socket, so it gets a duplicate.
                    await worker.open(ours.dup())
                    async with Tasks(f"worker {name}") as tasks:
                        tasks.start(worker.read_errors(), "stderr")
                        if stuck is not None:
                            tasks.start(worker.watch(stuck), "watch")
                        yield worker
                finally:
                    if await worker.stop():
                        self._restarts.add(name)
        finally:
            self._running -= 1

    async def _spawn(self, module: str, fd: int, writes: bool, memory: int | None) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(fd)),
            pass_fds=(fd,),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,
        )
        # Set from outside while the interpreter starts, so that nothing runs between fork and exec. The process may
        # have ended already.
        with suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + self._nice))
            if sys.platform.startswith("linux"):
                limits = {resource.RLIMIT_CORE: 0}
                if allowed := self._memory if memory is None else memory:
                    limits[resource.RLIMIT_DATA] = allowed
                if not writes:
                    limits[resource.RLIMIT_FSIZE] = 0
                for what, most in limits.items():
                    resource.prlimit(process.pid, what, (most, most))
        return process


class WorkerProcess(asyncio.Protocol):
    """One running worker. Only one task may call `send`, and only one task may call `receive`."""

    def __init__(self, process: Process, name: str, stream: str) -> None:
        self._process = process
        self._log = log.bind(worker=name, pid=process.pid, **({"stream": stream} if stream else {}))
        self._framer = wire.Framer()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._waiting = 0  # bytes in _frames
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._paused_reading = False
        self._frame_came: asyncio.Future[None] | None = None
        self._may_send: asyncio.Future[None] | None = None
        self._errors: deque[str] = deque(maxlen=_LINES)
        self._lines = 0
        self._all_said = asyncio.Event()  # set when its stderr is read to the end
        self._stopping = False
        self._reason = ""
        self._full_since: float | None = None  # monotonic time when the worker stopped reading
        self.pid = process.pid

    # ---- frames ----

    async def send(self, kind: int, body: bytes) -> None:
        """Sends a frame to the worker; waits while the send buffer is full. Raises WorkerDied."""
        await self._write(wire.header(kind, len(body)), body)

    async def send_json(self, kind: int, said: dict[str, Any]) -> None:
        """Sends a frame with a JSON object, as `send`."""
        await self.send(kind, wire.write_json(said))

    async def send_item(self, item: Tracks | AccessUnit) -> None:
        """Sends a stream's tracks or its next unit, whose payload is not copied, as `send`."""
        if isinstance(item, AccessUnit):
            await self._write(wire.unit_head(item), item.payload)
        else:
            await self.send(StreamMessage.TRACKS, wire.encode_tracks(item))

    async def send_end(self) -> None:
        """Sends the end of the stream, as `send`."""
        await self.send(StreamMessage.END, wire.encode_end())

    async def _write(self, head: bytes, body: bytes) -> None:
        if self._gone or self._transport is None:
            raise await self.died()
        self._transport.write(head)
        self._transport.write(body)
        if self._may_send is not None:
            await asyncio.shield(self._may_send)
            if self._gone:
                raise await self.died()

    async def receive(self) -> tuple[int, bytes] | None:
        """Returns the worker's next frame as (kind, body); None when the worker has ended (see `died`)."""
        while not self._frames:
            if self._gone:
                return None
            self._frame_came = asyncio.get_running_loop().create_future()
            await self._frame_came
        frame = self._frames.popleft()
        self._waiting -= len(frame[1])
        if self._paused_reading and self._waiting < _RECEIVED_MOST // 2 and self._transport is not None:
            self._paused_reading = False
            self._transport.resume_reading()
        return frame

    async def expect(self, within: float) -> tuple[int, bytes]:
        """Returns the next frame. Raises WorkerDied if the worker ends or sends none within `within` seconds."""
        try:
            async with asyncio.timeout(within):
                frame = await self.receive()
        except TimeoutError:
            raise WorkerDied(f"the media worker said nothing for {within:.0f} s") from None
        if frame is None:
            raise await self.died()
        return frame

    async def exchange(self, feed: Coroutine[Any, Any, None], handlers: Mapping[int, Handler], last: float) -> bool:
        """Runs `feed`, which sends, and gives each frame of the worker to the handler of its kind, until both end.

        A handler that returns True has handled the last frame. last: seconds for the worker after the end of `feed`.
        Returns False if the worker ended after `feed` and without a last frame. Raises WorkerDied if it ended before
        or sent an invalid frame, and what `feed` and the handlers raise.
        """
        async with Tasks("worker") as tasks:
            feeding = tasks.start(feed, "feed")
            reading = tasks.start(self._read(handlers), "read")
            await asyncio.wait((feeding, reading), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                feeding.result()
                try:
                    async with asyncio.timeout(last):
                        await reading
                except TimeoutError:
                    self._log.warning("the last results of a media worker were not waited for")
                    return True
            finished: bool = reading.result()
            if feeding.done():
                feeding.result()
            elif not finished:
                raise await self.died()
            return finished

    async def _read(self, handlers: Mapping[int, Handler]) -> bool:
        """Returns whether a handler has handled the last frame. False: the worker has ended before."""
        while (received := await self.receive()) is not None:
            kind, body = received
            try:
                handler = handlers.get(kind)
                if handler is None:
                    raise InvalidData(f"a frame of kind {kind}")
                if handler(body):
                    return True
            except InvalidData as error:
                self.kill(f"it sends nonsense: {error}")
                raise await self.died() from error
        return False

    async def died(self) -> WorkerDied:
        """Waits until the process is over, for 1 s at most. Returns, not raises, an error that says how it ended."""
        try:
            async with asyncio.timeout(1):
                status = await self._process.wait()
        except TimeoutError:
            return WorkerDied("the media worker closed its link")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._all_said.wait()
        if self._reason:
            return WorkerDied(f"the media worker was ended: {self._reason}")
        how = f"by {signal.Signals(-status).name}" if -status in list(signal.Signals) else f"with status {status}"
        last = f": {self._errors[-1]}" if status and self._errors else ""
        return WorkerDied(f"the media worker ended {how}{last}")

    def kill(self, reason: str = "") -> None:
        """Ends the process at once. `receive` still returns the frames that it had sent, then None.

        reason: if given, this counts as a death, and `died` tells the reason.
        """
        self._reason = reason
        self._stopping = not reason
        with suppress(ProcessLookupError):
            self._process.kill()

    # ---- for Workers ----

    async def open(self, sock: socket.socket) -> None:
        """Takes over the gateway's end of the socket pair."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> bool:
        """Ends the process and waits for it. Returns whether it had died before."""
        died = self._gone and not self._stopping
        if died:
            error = await self.died()
            died = self._process.returncode != 0
            if died:
                earlier = max(0, self._lines - _LINES)
                self._log.warning(
                    "media worker died", reason=str(error), **({"lines_left_out": earlier} if earlier else {})
                )
                for line in self._errors:
                    self._log.warning("media worker said", line=line)
        self.kill()
        if self._transport is not None:
            self._transport.abort()
        # Shielded: a killed process has to be reaped. SIGKILL cannot be ignored, so the wait is short.
        await asyncio.shield(self._process.wait())
        return died

    async def read_errors(self) -> None:
        """Keeps the last lines that the worker writes to stderr, until stderr ends."""
        assert self._process.stderr is not None
        rest = b""
        try:
            while data := await self._process.stderr.read(4096):
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[:_LINE]
                self._note(lines)
            self._note([rest])
        finally:
            self._all_said.set()

    async def watch(self, stuck: float) -> None:
        """Ends the process when it takes nothing for `stuck` seconds although frames wait for it."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._full_since is not None and time.monotonic() - self._full_since > stuck:
                self.kill(f"it took nothing for {stuck:.0f} s")
                return

    def _note(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line[:_LINE].decode("utf-8", "backslashreplace").rstrip()
            if text:
                self._lines += 1
                self._errors.append(text)
                self._log.debug("media worker said", line=text)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's classes, so isinstance would fail here.
        self._transport = made = cast(asyncio.Transport, transport)
        made.set_write_buffer_limits(high=_SENT_MOST)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._framer.receive(data)
        except InvalidData as error:
            self._log.error("media worker sent what is no frame", reason=str(error))
            self._end()
            if self._transport is not None:
                self._transport.abort()
            return
        for frame in frames:
            self._frames.append(frame)
            self._waiting += len(frame[1])
        if self._waiting > _RECEIVED_MOST and not self._paused_reading and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()
        if frames:
            self._wake(self._frame_came)

    def pause_writing(self) -> None:
        self._may_send = asyncio.get_running_loop().create_future()
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        self._full_since = None
        may, self._may_send = self._may_send, None
        self._wake(may)

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self._gone = True
        self._wake(self._frame_came)
        may, self._may_send = self._may_send, None
        self._wake(may)

    @staticmethod
    def _wake(future: asyncio.Future[None] | None) -> None:
        if future is not None and not future.done():
            future.set_result(None)


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_FAMILIES)}
    # Without this, each encoder thread would reserve its own malloc arena.
    kept["MALLOC_ARENA_MAX"] = "2"
    root = Path(__file__).resolve().parents[2]
    if not root.is_relative_to(sys.prefix):
        # A checkout that is not installed: the worker has to find the gateway's code from any working directory.
        kept["PYTHONPATH"] = os.pathsep.join(p for p in (str(root), kept.get("PYTHONPATH", "")) if p)
    return kept
