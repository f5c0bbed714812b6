"""Reading ahead in a thread: the same items in order, errors and ends included."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gateway.workers.programs.vod.video_transcoder import read_ahead
from tests.support.time_outs import at_most


def test_items_come_in_order() -> None:
    assert list(read_ahead(iter(range(1000)), 4)) == list(range(1000))
    assert list(read_ahead(iter(()), 4)) == []


def test_an_error_of_the_iterator_is_raised_after_earlier_items() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("broken")

    taken = read_ahead(broken(), 4)
    assert next(taken) == 1
    with pytest.raises(RuntimeError, match="broken"):
        next(taken)


def test_the_number_of_waiting_items_is_bounded() -> None:
    made: list[int] = []
    enough = threading.Event()

    def numbers() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            if n == 4:  # four wait, one is taken
                enough.set()
            yield n

    taken = read_ahead(numbers(), 4)
    assert next(taken) == 0
    assert enough.wait(at_most(10))
    assert len(made) <= 5
    taken.close()  # type: ignore[attr-defined]


def test_the_iterator_stops_when_its_reader_closes() -> None:
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    taken = read_ahead(numbers(), 2)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert ended.wait(at_most(10))
