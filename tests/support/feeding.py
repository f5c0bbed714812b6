"""Feeds a parser in all ways that a network may deliver bytes: whole, byte by byte, or in odd pieces."""

from collections.abc import Callable, Iterator
from typing import Any


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Ways to divide `data`: one piece, single bytes, pieces of 7, and three thirds."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    yield [data[i : i + 7] for i in range(0, len(data), 7)]
    third = len(data) // 3
    yield [data[:third], data[third : 2 * third], data[2 * third :]]


def feed_all_ways(make: Callable[[], Callable[[bytes], list[Any]]], data: bytes) -> list[Any]:
    """Feeds `data` to a new parser in each way. All must return the same events, which are returned."""
    results = []
    for pieces in cuts(data):
        feed = make()
        results.append([event for piece in pieces for event in feed(piece)])
    first = results[0]
    for other in results[1:]:
        assert other == first
    return first
