"""Bytes that are made when they are first requested."""

from __future__ import annotations

from collections.abc import Callable


class LazyBytes:
    """The bytes of a segment or part, made on the first request and then kept. Most segments are never watched.

    size: number of bytes; for MPEG-TS an estimate. Used by one event loop only.
    """

    __slots__ = ("_made", "_make", "size")

    def __init__(self, make: Callable[[], bytes], size: int) -> None:
        self._make: Callable[[], bytes] | None = make
        self._made = b""
        self.size = size

    def __call__(self) -> bytes:
        make = self._make
        if make is not None:
            self._made = make()
            self._make = None  # frees the source media
        return self._made

    def becomes(self, make: Callable[[], bytes]) -> None:
        """Drops the bytes; from now on `make` supplies them."""
        self._made, self._make = b"", make
