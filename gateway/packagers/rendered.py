"""Bytes that are made when somebody first asks for them."""

from __future__ import annotations

from collections.abc import Callable


class Rendered:
    """The bytes of a segment or part, kept once they are made. Most are never watched, and so never made.

    size: how many bytes; of a transport stream about how many. Touched by one loop.
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
            self._make = None  # lets go of the media it was made from
        return self._made

    def becomes(self, make: Callable[[], bytes]) -> None:
        """Forgets the bytes: from now on `make` has them."""
        self._made, self._make = b"", make
