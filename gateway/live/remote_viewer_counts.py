"""The viewers that other nodes report for streams of this node."""

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.lib.clocks import Clock

FORGET_SECONDS: Final = 30.0  # after this time without a report, a node has no viewers
MAX_REPORTERS: Final = 20_000  # pairs of stream and node
MAX_COUNT: Final = 10_000_000  # viewers of one protocol that one node can have


@dataclass(frozen=True, slots=True)
class _Reported:
    counts: Mapping[str, int]
    at: float


class RemoteViewerCounts:
    """The last report of each node for each stream. A report is forgotten after FORGET_SECONDS.

    At most MAX_REPORTERS pairs of stream and node are remembered; the one with the oldest report is removed first.
    clock: monotonic seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._reports: OrderedDict[tuple[str, str], _Reported] = OrderedDict()  # ordered by the time of the report
        self._nodes: dict[str, set[str]] = {}  # by stream

    def __len__(self) -> int:
        return len(self._reports)

    def report(self, stream: str, node: str, counts: Mapping[str, int]) -> None:
        """Stores a report: the number of viewers of `stream` at `node` now, by protocol."""
        counts = {protocol: min(count, MAX_COUNT) for protocol, count in counts.items() if count > 0}
        if not counts:
            self._forget((stream, node))
            return
        self._reports[stream, node] = _Reported(counts, self._clock())
        self._reports.move_to_end((stream, node))
        self._nodes.setdefault(stream, set()).add(node)
        self._expire()
        if len(self._reports) > MAX_REPORTERS:
            self._forget(next(iter(self._reports)))

    def of(self, stream: str) -> Counter[str]:
        """Returns the sum over all nodes, by protocol."""
        self._expire()
        counts: Counter[str] = Counter()
        for node in self._nodes.get(stream, ()):
            counts.update(self._reports[stream, node].counts)
        return counts

    def _expire(self) -> None:
        due = self._clock() - FORGET_SECONDS
        while self._reports:
            pair, report = next(iter(self._reports.items()))
            if report.at > due:
                return
            self._forget(pair)

    def _forget(self, pair: tuple[str, str]) -> None:
        if self._reports.pop(pair, None) is None:
            return
        stream, node = pair
        nodes = self._nodes[stream]
        nodes.discard(node)
        if not nodes:
            del self._nodes[stream]
