"""Reading ahead: an iterator runs in a thread of its own, a few items before whoever takes them."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 0.1  # seconds between looks whether anybody still takes


class _End:
    """What comes after the last item; error: that the iterator raised."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(source: Iterator[T], most: int) -> Iterator[T]:
    """The items of `source`, at most `most` of them waiting; what it raises is raised here.

    Decoding lets go of the interpreter, and so does encoding: each gets a core. One thread runs `source`, the other
    takes; only the queue is touched by both. One that is not taken to its end stops soon, and is not waited for.
    """
    queue: Queue[T | _End] = Queue(most)
    unwanted = Event()

    def put(item: T | _End) -> bool:
        while not unwanted.is_set():
            try:
                queue.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def run() -> None:
        error: BaseException | None = None
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as raised:
            error = raised
        put(_End(error))

    thread = Thread(target=run, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = queue.get(timeout=1)
            except Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        unwanted.set()
