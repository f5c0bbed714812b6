"""The worker's end of the link (blocking frames on the inherited socket), and the start and end of a worker process."""

import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Final, Protocol

from gateway.lib.numbers import read_integer
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Tracks
from gateway.ports.errors import INTERNAL_ERROR
from gateway.protocols import wire
from gateway.protocols.wire import SOURCE, StreamMessage
from gateway.workers.messages import WorkerMessage

_RECEIVE_BYTES: Final = 1 << 15  # small, so that the gateway notices soon that a slow worker reads
_MAX_DESCRIPTOR: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1


class LinkClosed(Exception):
    """The gateway has closed its end of the link, so it needs no more results."""


class ParentLink:
    """Frames to and from the gateway. Only one thread may call `receive`; any thread may call `send`."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._framer = wire.Framer()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._sending = threading.Lock()

    def receive(self) -> tuple[int, bytes] | None:
        """Returns the next frame as (kind, body); None if the gateway has closed its end or has ended.

        Blocks. Raises InvalidData for an invalid frame.
        """
        while not self._frames:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._frames.extend(self._framer.receive(data))
        return self._frames.popleft()

    def close(self) -> None:
        """Closes the link. Then `send` of another thread raises LinkClosed."""
        self._socket.close()

    @property
    def has_received(self) -> bool:
        """Whether `receive` returns without reading the socket."""
        return bool(self._frames)

    def receive_setup(self) -> bytes | None:
        """Returns the body of the first frame; None like `receive`. Raises InvalidData for a frame of another kind."""
        return self._receive_only(WorkerMessage.SETUP)

    def _receive_only(self, kind: int) -> bytes | None:
        first = self.receive()
        if first is not None and first[0] != kind:
            raise InvalidData(f"a frame of kind {kind} is expected, not of kind {first[0]}")
        return first and first[1]

    def receive_tracks(self) -> Tracks | None:
        """Returns the tracks of the next frame; None like `receive`. Raises InvalidData for a frame of another kind."""
        body = self._receive_only(StreamMessage.TRACKS)
        return None if body is None else wire.decode_tracks(body)

    def send(self, kind: int, body: bytes) -> None:
        """Sends a frame. Blocks while the socket's buffer is full: this is the back-pressure. Raises LinkClosed."""
        self._write(wire.frame(kind, body))

    def _write(self, data: bytes) -> None:
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError as error:
            if isinstance(error, (BrokenPipeError, ConnectionResetError)) or self._socket.fileno() < 0:
                raise LinkClosed from None
            raise

    def send_json(self, kind: int, **fields: object) -> None:
        """Sends a frame with a JSON object."""
        self.send(kind, wire.write_json(fields))

    def send_tracks(self, tracks: Tracks, to: int = SOURCE) -> None:
        """Sends the tracks of the next units. to: the stream on the link, as one bit."""
        self.send(StreamMessage.TRACKS, wire.encode_tracks(tracks, to))

    def send_units(self, units: Iterable[AccessUnit], to: int = SOURCE) -> None:
        """Sends units in order, in one write. to: the stream on the link, as one bit."""
        data = b"".join([part for unit in units for part in (wire.unit_head(unit, to), unit.payload)])
        if data:
            self._write(data)

    def send_end(self, to: int = SOURCE) -> None:
        """Sends the end of a stream. to: the stream on the link, as one bit."""
        self.send(StreamMessage.END, wire.encode_end(to))


class StreamWorker(Protocol):
    """Processes the stream that the gateway sends to a worker."""

    def change(self, tracks: Tracks) -> None:
        """Sets the tracks of the next units."""

    def take(self, unit: AccessUnit) -> None:
        """Processes the next unit."""

    def finish(self) -> None:
        """Sends all delayed units, and the end."""


def serve(link: ParentLink, worker: StreamWorker, others: Mapping[int, Callable[[bytes], None]]) -> None:
    """Passes the stream to the worker, until its end or until the gateway closes the link.

    others: handlers of the worker's own kinds of frames. Raises InvalidData for an invalid or unknown frame.
    """
    tracks: Tracks | None = None
    while (received := link.receive()) is not None:
        kind, body = received
        if kind == StreamMessage.UNIT:
            worker.take(wire.decode_unit(body, tracks))
        elif kind == StreamMessage.TRACKS:
            tracks = wire.decode_tracks(body)
            worker.change(tracks)
        elif kind == StreamMessage.END:
            worker.finish()
            return
        elif kind in others:
            others[kind](body)
        else:
            raise InvalidData(f"a frame of kind {kind}")


def run(work: Callable[[ParentLink], None]) -> int:
    """Runs the main program of a worker; returns its exit status. The only argument is the link's file descriptor.

    The worker always ends with the gateway: at the end of file on the link, and on Linux also by a signal, even if it
    hangs in native code. It ignores signals to the whole process group: the gateway handles these, finishes its files
    and then ends its workers.
    """
    descriptor = _begin()
    if descriptor is None:
        return 2
    try:
        _serve_link(work, descriptor)
    except Exception:
        log_crash()
        return 1
    return 0


def run_shared(work: Callable[[ParentLink], None]) -> int:
    """Does the same for a worker that gets links over its descriptor. Each one is served by a thread of its own."""
    descriptor = _begin()
    if descriptor is None:
        return 2
    with socket.socket(fileno=descriptor) as control:
        control.setblocking(True)
        while links := socket.recv_fds(control, 1, 1)[1]:
            start_thread(partial(_serve_link, work, links[0]), "link")
    return 0


def _begin() -> int | None:
    """Prepares the process. Returns its descriptor; None if it was started in another way."""
    descriptor = read_integer(sys.argv[1], _MAX_DESCRIPTOR) if len(sys.argv) == 2 else None
    if descriptor is None:
        log_reason("this program is started by the gateway")
        return None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    return descriptor


def _serve_link(work: Callable[[ParentLink], None], descriptor: int) -> None:
    with suppress(LinkClosed), closing(ParentLink(descriptor)) as link:
        work(link)


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Starts a thread of a worker. An unexpected error in it ends the process, so that the gateway notices it."""

    def guarded() -> None:
        try:
            work()
        except LinkClosed:
            exit_now(0)
        except BaseException:
            log_crash()
            exit_now(1)

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread


def log_reason(text: str) -> None:
    """Writes the reason for the end of this worker to stderr. The gateway logs it."""
    sys.stderr.write(text.rstrip() + "\n")


def log_crash() -> None:
    """Writes the current exception to stderr, which the gateway logs. The last line is a sentence, which users see."""
    log_reason(traceback.format_exc())
    log_reason("not enough memory" if isinstance(sys.exception(), MemoryError) else INTERNAL_ERROR)


def exit_now(status: int) -> None:
    """Ends the process immediately, without waiting for threads that still encode."""
    sys.stderr.flush()
    os._exit(status)


def die_with_parent() -> None:
    """Lets the kernel end this process with its parent, on Linux."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the gateway ended before prctl took effect
        exit_now(0)
