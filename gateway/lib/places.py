"""Limits how many things run at the same time; one more is refused, not delayed."""

from collections.abc import Callable


class Places:
    """Use it as `with places:` around each of them. It raises `full()` if `most` run already."""

    def __init__(self, most: int, full: Callable[[], Exception]) -> None:
        self.free, self._full = most, full

    def __enter__(self) -> None:
        if not self.free:
            raise self._full()
        self.free -= 1

    def __exit__(self, *error: object) -> None:
        self.free += 1
