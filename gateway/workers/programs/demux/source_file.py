"""The bytes of one source as a file object for libav: read from the gateway over the link, on request."""

import io
from collections.abc import Callable
from queue import SimpleQueue
from threading import Condition
from typing import Final

from gateway.lib.bounded_dict import BoundedDict

_BLOCK: Final = 512 * 1024  # bytes of a request; also the unit of the cache of a file
_MAX_BLOCKS: Final = 8


class SourceClosed(Exception):
    """The gateway does not need the source any more."""


class SourceFile:
    """Reads a source. One thread reads; another one passes the gateway's messages.

    size: bytes of a file, which is read in blocks with a small cache, because video and audio of a film may be far
    apart. 0: a stream, whose bytes are passed on as they come.
    request: sends a request for bytes (offset, size).

    credit: bytes of units that may be sent at first.
    """

    def __init__(self, size: int, credit: int, request: Callable[[int, int], None]) -> None:
        self._size = size
        self._request = request
        self._arrived: SimpleQueue[bytes | None] = SimpleQueue()  # answers of the gateway; None: the source is closed
        self._at = 0
        self._rest = memoryview(b"")  # bytes of a stream that are not read yet
        self._blocks: BoundedDict[int, bytes] = BoundedDict(_MAX_BLOCKS)
        self._credit = credit
        self._changed = Condition()
        self._closed = False
        self._ended = False

    # ---- for the thread that receives ----

    def add_data(self, data: bytes) -> None:
        """Passes the answer to a request; empty: the end."""
        self._arrived.put(data)

    def add_credit(self, size: int) -> None:
        """Allows to send more units."""
        with self._changed:
            self._credit += size
            self._changed.notify()

    def close(self) -> None:
        """Ends the source; the reading thread gets SourceClosed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._arrived.put(None)

    # ---- for the thread that reads ----

    def spend(self, size: int) -> None:
        """Waits until a unit of `size` bytes may be sent, and counts it. Raises SourceClosed."""
        with self._changed:
            while self._credit <= 0 and not self._closed:
                self._changed.wait()
            if self._closed:
                raise SourceClosed
            self._credit -= size

    def read(self, size: int = -1) -> bytes:
        """Returns at most `size` bytes; b"" at the end. Raises SourceClosed."""
        if size < 0:
            raise ValueError("a source is read in pieces")
        return self._read_file(size) if self._size else self._read_stream(size)

    def seekable(self) -> bool:
        return self._size > 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position of a file."""
        if not self._size:
            raise OSError("a stream cannot seek")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def _read_stream(self, size: int) -> bytes:
        if not self._rest and not self._ended:
            self._rest = memoryview(self._fetch(self._at, _BLOCK))
            self._ended = not self._rest
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        self._at += len(data)
        return data

    def _read_file(self, size: int) -> bytes:
        if self._at >= self._size:
            return b""
        number, begin = divmod(self._at, _BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._fetch(number * _BLOCK, min(_BLOCK, self._size - number * _BLOCK))
        self._blocks[number] = block
        data = block[begin : begin + size]
        self._at += len(data)
        return data

    def _fetch(self, offset: int, size: int) -> bytes:
        self._request(offset, size)
        data = self._arrived.get()
        if data is None:
            raise SourceClosed
        return data
