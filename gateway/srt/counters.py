"""SrtCounters: the metrics of the connections of SRT's listener."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.lib.metric_table import SRT_CONNECTIONS, SRT_PACKETS, SRT_REFUSED, MetricSample, by_label
from gateway.protocols.srt.packets import Reject
from gateway.srt.link import Direction, SrtLink

_CLASSES: Final = sorted({f"{code // 100}xx" for code in Reject})


class SrtCounters:
    """Counts refusals, and the packets of links, also of those that are closed."""

    def __init__(self) -> None:
        self._refused: Counter[str] = Counter(dict.fromkeys(_CLASSES, 0))
        self._closed: Counter[tuple[str, ...]] = Counter()
        for direction in Direction:
            self._closed.update(dict.fromkeys(_packets(direction, None), 0))

    def refuse(self, code: int) -> None:
        self._refused[f"{code // 100}xx"] += 1

    def close(self, link: SrtLink) -> None:
        self._closed.update(_packets(link.direction, link))

    def samples(self, links: Iterable[SrtLink]) -> Iterator[MetricSample]:
        """Yields the samples. links: those that are open."""
        connections: Counter[str] = Counter(dict.fromkeys(Direction, 0))
        packets = self._closed.copy()
        for link in links:
            connections[link.direction] += 1
            packets.update(_packets(link.direction, link))
        yield from by_label(SRT_CONNECTIONS, connections)
        yield from (MetricSample(SRT_PACKETS, count, labels) for labels, count in packets.items())
        yield from by_label(SRT_REFUSED, self._refused)


def _packets(direction: Direction, link: SrtLink | None) -> dict[tuple[str, ...], int]:
    """Returns the packets of a link by the labels of the metric. None: none."""
    if direction is Direction.PUBLISH:
        names: tuple[str, ...] = ("received", "lost", "retransmitted", "dropped")
        counts: object = link and link.connection.received
    else:
        names, counts = ("sent", "retransmitted", "dropped"), link and link.connection.sent
    return {(str(direction), name): getattr(counts, name, 0) for name in names}
