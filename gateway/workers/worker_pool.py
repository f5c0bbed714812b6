"""Starts media workers: child processes on a socket pair, limited in number, memory and priority.

A worker works for one caller. A shared worker works for several: it gets a link for each of them over its socket pair.
"""

from __future__ import annotations

import asyncio
import copy
import fcntl
import os
import resource
import socket
import sys
import termios
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

import structlog

from gateway.channels.names import channel_of
from gateway.lib.control_group import cores
from gateway.lib.metrics import Counter
from gateway.lib.process import describe_exit, with_python_path
from gateway.lib.tasks import Tasks, awaited, finished
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Tracks
from gateway.ports.errors import OutputError
from gateway.ports.events import Event, Events, EventType
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings import models

log = structlog.get_logger(__name__)

# The environment variables that a worker may need. It gets no others, so it gets no secrets.
_ENVIRONMENT_NAMES: Final = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
)
_ENVIRONMENT_PREFIXES: Final = ("LC_", "PYTHON", "FONTCONFIG_", "XDG_")

_MAX_UNREAD: Final = 4_000_000  # bytes of received frames; above this, reading from the worker pauses
# Bytes in the send buffer; above this, `send` waits. They delay media in addition to the limits in seconds of callers,
# by 1 s at 0.5 Mbit/s.
_MAX_UNSENT: Final = 1 << 16
_DISPENSABLE: Final = 500  # thousandths of the memory that count in addition to those that a worker uses
_POLL_SECONDS: Final = 0.5  # between checks whether a worker reads frames
_MAX_LINE: Final = 300  # bytes of a line of stderr; the rest is dropped
_MAX_LINES: Final = 50  # last lines of a worker's stderr that are logged; earlier ones are only counted

Handler: TypeAlias = Callable[[bytes], "bool | None"]


class WorkerDied(OutputError):
    """A worker ended while it was needed. The message contains the reason."""


class WorkerPool:
    """Starts media workers and limits their number. running: number of workers now. limit: their maximum.

    The pool does not replace a worker that died; the code that uses the worker does.

    settings: number of workers, nice level and memory. restarts: counts the workers that died, by name.

    events: get a `worker.died` for each worker that died.
    """

    def __init__(self, settings: models.WorkersSettings, restarts: Counter, events: Events | None = None) -> None:
        self.limit = settings.most or max(8, 4 * cores())
        self.running = 0
        self._nice = settings.nice
        self._memory = settings.memory
        self._restarts = restarts
        self._events = events or Events()
        self._environment = _environment()
        self._parent: WorkerPool | None = None  # this pool is a share of it
        self._busy_text = "media workers are busy (workers.most)"
        self._shared: list[_SharedWorker] = []
        self._sharing = asyncio.Lock()  # so that callers at the same time get one process

    def share(self, limit: int, busy_text: str) -> Self:
        """Returns a pool of at most `limit` workers. Its workers also count in this pool.

        busy_text: the end of its error "all <limit> …" if no worker is free.
        """
        part = copy.copy(self)
        part.limit, part.running, part._parent, part._busy_text = limit, 0, self, busy_text
        return part

    @property
    def is_full(self) -> bool:
        """Whether no worker can be started now."""
        return self.running >= self.limit or (self._parent is not None and self._parent.is_full)

    def _count(self, step: int) -> None:
        self.running += step
        if self._parent is not None:
            self._parent._count(step)

    @asynccontextmanager
    async def start(
        self,
        module: str,
        name: str,
        *,
        stream: str = "",
        writes: bool = False,
        memory: int | None = None,
        hang_seconds: float | None = None,
    ) -> AsyncIterator[WorkerProcess]:
        """Starts a worker with `python -m module`, and kills it at the end of the block.

        name: its task, for log and metric. stream: for the log. writes: whether it may write files.
        memory: bytes that it may allocate; 0: no limit; None: the limit of the settings.
        hang_seconds: seconds after which a worker that reads no frames is killed; None: never.
        Raises OutputError if `limit` workers are running or if the process cannot be started.
        """
        self._check_free()
        self._count(1)
        try:
            gateway_end, worker_end = socket.socketpair()
            with gateway_end:
                try:
                    with worker_end:
                        child = await self._spawn(module, name, stream, worker_end.fileno(), writes, memory)
                except OSError as error:
                    raise OutputError(f"no media worker can be started: {error.strerror or error}") from error
                worker = WorkerProcess(child)
                try:
                    # The transport owns and closes its socket, so it gets a duplicate.
                    await worker.open(gateway_end.dup())
                    async with Tasks(f"worker {name}", awaited) as tasks:
                        if hang_seconds is not None:
                            tasks.start(worker.watch(hang_seconds), "watch")
                        yield worker
                finally:
                    self._count_death(await worker.stop(), name, stream)
        finally:
            self._count(-1)

    @asynccontextmanager
    async def start_shared(self, module: str, name: str, places: int, *, stream: str) -> AsyncIterator[WorkerProcess]:
        """Opens a link to a worker that has at most `places` links, and closes it at the end of the block.

        The worker is started for its first link, and ends with its last one. If no worker can be started, the link is
        to one with other `places`. Others, and errors: see `start`.
        """
        async with self._sharing:
            usable = [w for w in self._shared if w.module == module and w.has_place]
            shared = next((w for w in usable if w.places == places), None)
            if shared is None and usable and self.is_full:
                shared = usable[0]
            if shared is None:
                shared = await self._start_sharing(module, name, places)
            shared.links += 1
        try:
            worker = WorkerProcess(shared.child)
            try:
                await worker.open(shared.new_link())
            except OSError as error:
                raise WorkerDied(f"the media worker takes no link: {error.strerror or error}") from error
            try:
                yield worker
            finally:
                self._count_death(await worker.leave(), name, stream)
        finally:
            shared.links -= 1
            if not shared.links:
                self._shared.remove(shared)
                shared.control.close()
                shared.pool._count(-1)
                await finished(shared.child.end())

    async def _start_sharing(self, module: str, name: str, places: int) -> _SharedWorker:
        self._check_free()
        control, worker_end = socket.socketpair()
        control.setblocking(False)
        self._count(1)
        try:
            with worker_end:
                child = await self._spawn(module, name, "", worker_end.fileno(), False, None)
        except BaseException as error:
            self._count(-1)
            control.close()
            if isinstance(error, OSError):
                raise OutputError(f"no media worker can be started: {error.strerror or error}") from error
            raise
        shared = _SharedWorker(self, module, child, control, places)
        self._shared.append(shared)
        return shared

    def _check_free(self) -> None:
        """Raises OutputError if no worker can be started now."""
        if self.is_full:
            full = self if self.running >= self.limit or self._parent is None else self._parent
            raise OutputError(f"all {full.limit} {full._busy_text}")

    def _count_death(self, reason: str | None, name: str, stream: str) -> None:
        if reason is not None:
            self._restarts.add(name)
            data = {"kind": name, "reason": reason}
            self._events.emit(Event(EventType.WORKER_DIED, time.time(), channel_of(stream), data))

    async def _spawn(self, module: str, name: str, stream: str, fd: int, writes: bool, memory: int | None) -> _Child:
        child = _Child(name, stream)
        try:
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *(sys.executable, "-P", "-m", module, str(fd)),  # -P: nothing is imported from the working directory
                pass_fds=(fd,),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except asyncio.CancelledError:
            await finished(child.exited.wait())  # the loop has killed it; at the end of the loop nobody would reap it
            raise
        # Set by this process while the interpreter starts, so that no code runs between fork and exec. The worker may
        # have ended already.
        pid = transport.get_pid()
        with suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + self._nice))
            if sys.platform.startswith("linux"):
                limits = {resource.RLIMIT_CORE: 0}
                if allowed := self._memory if memory is None else memory:
                    limits[resource.RLIMIT_DATA] = allowed
                if not writes:
                    limits[resource.RLIMIT_FSIZE] = 0
                for kind, limit in limits.items():
                    resource.prlimit(pid, kind, (limit, limit))
                _make_dispensable(pid)
        return child


def _make_dispensable(pid: int) -> None:
    """Tells the kernel to end this process before the gateway if the machine or the container has no memory left.

    It would end the largest one. A worker is replaced; with the gateway, all streams end. proc(5), `oom_score_adj`.
    """
    with suppress(OSError):
        own = int(Path("/proc/self/oom_score_adj").read_text("ascii"))
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, own + _DISPENSABLE)))


class _Child(asyncio.SubprocessProtocol):
    """The process of a worker for the operating system: its end, and the last lines of its stderr.

    name: the worker's task; stream: what it works for; both for the log.
    """

    def __init__(self, name: str, stream: str) -> None:
        self.log = log.bind(worker=name, **({"stream": stream} if stream else {}))
        self.last_lines: deque[str] = deque(maxlen=_MAX_LINES)
        self.line_count = 0
        self.exited = asyncio.Event()
        self.stderr_closed = asyncio.Event()
        self._incomplete = b""  # the line of stderr that has no end yet
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def transport(self) -> asyncio.SubprocessTransport:
        assert self._transport is not None  # `_spawn` returns later
        return self._transport

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.transport.kill()

    async def end(self) -> None:
        """Kills the process, waits for its end and closes its pipe. SIGKILL cannot be ignored, so the wait is short."""
        self.kill()
        try:
            await self.exited.wait()
        finally:
            self.transport.close()

    def _log_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line[:_MAX_LINE].decode("utf-8", "backslashreplace").rstrip()
            if text:
                self.line_count += 1
                self.last_lines.append(text)
                self.log.debug("media worker said", line=text)

    # ---- asyncio.SubprocessProtocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's classes, so isinstance would fail here.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.log = self.log.bind(pid=self._transport.get_pid())

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, incomplete = (self._incomplete + data).split(b"\n")
        self._incomplete = incomplete[:_MAX_LINE]
        self._log_lines(lines)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        self._log_lines([self._incomplete])
        self.stderr_closed.set()

    def process_exited(self) -> None:
        self.exited.set()


@dataclass(slots=True, eq=False)
class _SharedWorker:
    """A worker with several links. pool: counts it. control: passes it the links. places: maximum of links."""

    pool: WorkerPool
    module: str
    child: _Child
    control: socket.socket
    places: int
    links: int = 0

    @property
    def has_place(self) -> bool:
        return self.links < self.places and not self.child.exited.is_set()

    def new_link(self) -> socket.socket:
        """Returns the gateway's end of a new link. Raises OSError."""
        gateway_end, worker_end = socket.socketpair()
        try:
            with worker_end:
                socket.send_fds(self.control, [b"\0"], [worker_end.fileno()])
        except OSError:
            gateway_end.close()
            raise
        return gateway_end


class WorkerProcess(asyncio.Protocol):
    """One running worker. Only one task may call `send`, and only one task may call `receive`."""

    def __init__(self, child: _Child) -> None:
        self._child = child
        self._log = child.log
        self._framer = wire.Framer()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._unread = 0  # bytes in _frames
        self._transport: asyncio.Transport | None = None
        self._closed = False  # the link is closed
        self._paused_reading = False
        self._frame_received: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # done when `send` may continue; None: `send` need not wait
        self._stopping = False
        self._reason = ""
        self._full_since: float | None = None  # monotonic time since when `send` waits and the worker reads nothing
        self.pid = child.transport.get_pid()

    # ---- frames ----

    async def send(self, kind: int, body: bytes) -> None:
        """Sends a frame to the worker; waits while the send buffer is full. Raises WorkerDied."""
        await self._write(wire.header(kind, len(body)), body)

    async def send_json(self, kind: int, fields: dict[str, Any]) -> None:
        """Sends a frame with a JSON object, like `send`."""
        await self.send(kind, wire.write_json(fields))

    async def send_item(self, item: Tracks | AccessUnit) -> None:
        """Sends a stream's tracks or its next unit, like `send`. The payload of a unit is not copied."""
        if isinstance(item, AccessUnit):
            await self._write(wire.unit_head(item), item.payload)
        else:
            await self.send(StreamMessage.TRACKS, wire.encode_tracks(item))

    async def send_end(self) -> None:
        """Sends the end of the stream, like `send`."""
        await self.send(StreamMessage.END, wire.encode_end())

    async def _write(self, head: bytes, body: bytes) -> None:
        if self._closed or self._transport is None:
            raise await self.died()
        self._transport.write(head)
        self._transport.write(body)
        if self._writable is not None:
            await asyncio.shield(self._writable)
            if self._closed:
                raise await self.died()

    async def receive(self) -> tuple[int, bytes] | None:
        """Returns the worker's next frame as (kind, body); None if the worker has ended (see `died`)."""
        while not self._frames:
            if self._closed:
                return None
            self._frame_received = asyncio.get_running_loop().create_future()
            await self._frame_received
        frame = self._frames.popleft()
        self._unread -= len(frame[1])
        if self._paused_reading and self._unread < _MAX_UNREAD // 2 and self._transport is not None:
            self._paused_reading = False
            self._transport.resume_reading()
        return frame

    async def expect(self, seconds: float) -> tuple[int, bytes]:
        """Returns the next frame. Raises WorkerDied if the worker ends, or sends no frame for `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                frame = await self.receive()
        except TimeoutError:
            raise WorkerDied(f"the media worker sent nothing for {seconds:.0f} s") from None
        if frame is None:
            raise await self.died()
        return frame

    async def exchange(
        self, sending: Coroutine[Any, Any, None], handlers: Mapping[int, Handler], finish_seconds: float
    ) -> bool:
        """Runs `sending`, and passes each frame of the worker to the handler of its kind, until both end.

        A handler returns True if this was the last frame. finish_seconds: time for the worker after the end of
        `sending`. Returns False if the worker ended after `sending` without a last frame. Raises WorkerDied if it ended
        before that or sent an invalid frame, and all errors of `sending` and the handlers.
        """
        async with Tasks("worker", awaited) as tasks:
            sender = tasks.start(sending, "send")
            reading = tasks.start(self._read(handlers), "read")
            await asyncio.wait((sender, reading), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                sender.result()
                try:
                    async with asyncio.timeout(finish_seconds):
                        await reading
                except TimeoutError:
                    self._log.warning("the last results of a media worker were not waited for")
                    return True
            finished: bool = reading.result()
            self._stopping = self._stopping or finished
            if sender.done():
                sender.result()
            elif not finished:
                raise await self.died()
            return finished

    async def _read(self, handlers: Mapping[int, Handler]) -> bool:
        """Returns whether a handler has handled the last frame. False: the worker ended before that."""
        while (received := await self.receive()) is not None:
            kind, body = received
            try:
                handler = handlers.get(kind)
                if handler is None:
                    raise InvalidData(f"a frame of kind {kind}")
                if handler(body):
                    return True
            except InvalidData as error:
                self.kill(f"it sent an invalid frame: {error}")
                raise await self.died() from error
        return False

    async def died(self) -> WorkerDied:
        """Waits until the process has ended, at most 1 s. Returns (does not raise) an error with the exit reason."""
        try:
            async with asyncio.timeout(1):
                await self._child.exited.wait()
        except TimeoutError:
            return WorkerDied("the media worker closed its link")
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._child.stderr_closed.wait()
        if self._reason:
            return WorkerDied(f"the media worker was ended: {self._reason}")
        status = self._child.transport.get_returncode() or 0
        last = f": {self._child.last_lines[-1]}" if status and self._child.last_lines else ""
        return WorkerDied(f"the media worker {describe_exit(status)}{last}")

    def kill(self, reason: str = "") -> None:
        """Kills the process. `receive` still returns the frames that the worker had sent, then None.

        reason: if not "", this counts as a death, and the error of `died` has this reason.
        """
        self._reason = reason
        self._stopping = not reason
        self._child.kill()

    # ---- for WorkerPool ----

    async def open(self, sock: socket.socket) -> None:
        """Connects to the worker. sock: the gateway's end of the socket pair; this object then owns it."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> str | None:
        """Kills the process and waits for its end. Returns the reason if it had died before; otherwise None."""
        try:
            return await self._death() if self._closed and not self._stopping else None
        finally:  # also if the wait of `_death` is cancelled
            self.kill()
            if self._transport is not None:
                self._transport.abort()
            await finished(self._child.end())  # a killed process has to be reaped

    async def leave(self) -> str | None:
        """Closes the link to a worker that others use too. Returns the reason if it had died before; otherwise None."""
        try:
            return await self._death() if self._closed and not self._stopping else None
        finally:
            if self._transport is not None:
                self._transport.abort()

    async def _death(self) -> str | None:
        """Logs why the process has ended, and returns the reason; None if its work was done."""
        error = await self.died()
        if self._child.transport.get_returncode() == 0:
            return None
        reason = str(error)
        omitted = max(0, self._child.line_count - _MAX_LINES)
        self._log.warning("media worker died", reason=reason, **({"lines_left_out": omitted} if omitted else {}))
        for line in self._child.last_lines:
            self._log.warning("media worker said", line=line)
        return reason

    async def watch(self, hang_seconds: float) -> None:
        """Kills the process if it reads nothing for `hang_seconds` although frames wait."""
        before = b""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._full_since is None or self._transport is None or self._transport.is_closing():
                continue
            # `send` waits, so only a read changes the bytes in the kernel. The send buffer is a worse measure: it does
            # not shrink until the worker has read three quarters of the bytes in the kernel.
            unread = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            if unread != before:
                before, self._full_since = unread, time.monotonic()
            elif time.monotonic() - self._full_since > hang_seconds:
                self.kill(f"it read nothing for {hang_seconds:.0f} s")
                return

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's classes, so isinstance would fail here.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_MAX_UNSENT)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._framer.receive(data)
        except InvalidData as error:
            self._log.error("media worker sent an invalid frame", reason=str(error))
            self.connection_lost(error)
            if self._transport is not None:
                self._transport.abort()
            return
        for frame in frames:
            self._frames.append(frame)
            self._unread += len(frame[1])
        if self._unread > _MAX_UNREAD and not self._paused_reading and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()
        if frames:
            self._wake(self._frame_received)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        self._full_since = None
        self._wake(self._writable)
        self._writable = None

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._wake(self._frame_received)
        self._wake(self._writable)
        self._writable = None

    @staticmethod
    def _wake(future: asyncio.Future[None] | None) -> None:
        if future is not None and not future.done():
            future.set_result(None)


def _environment() -> dict[str, str]:
    names = [n for n in os.environ if n in _ENVIRONMENT_NAMES or n.startswith(_ENVIRONMENT_PREFIXES)]
    environment = {name: os.environ[name] for name in names}
    environment["MALLOC_ARENA_MAX"] = "2"  # otherwise each encoder thread would reserve its own malloc arena
    return with_python_path(environment)
