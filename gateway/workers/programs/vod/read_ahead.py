"""Runs an iterator in its own thread, a few items ahead of the consumer."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_SECONDS: Final = 0.1  # between checks whether the consumer has stopped


class _End:
    """Marks the end of the queue. error: the exception of the iterator, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(source: Iterator[T], max_items: int) -> Iterator[T]:
    """Yields the items of `source`. It runs in a thread, at most `max_items` ahead. Raises its exceptions.

    Decoding and encoding both release the GIL, so each can use one core. The two threads share only the queue. If the
    caller stops early, the thread stops soon; the caller does not wait for it.
    """
    queue: Queue[T | _End] = Queue(max_items)
    stopped = Event()

    def put(item: T | _End) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=_POLL_SECONDS)
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
        stopped.set()
