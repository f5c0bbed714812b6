"""Counts the bytes of each channel in this process: received from its publisher, and sent to its viewers."""

from collections.abc import Iterator
from typing import Final

from gateway.lib import metric_table
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.metric_table import MetricSample

MAX_CHANNELS: Final = 10_000  # counted at a time; beyond that, the one that was used least recently is forgotten


class Tally:
    """The bytes of one channel since the start of the process. Whoever sends or receives adds to it.

    received: media payload. sent: with the framing of the protocol.
    """

    __slots__ = ("_taken_received", "_taken_sent", "received", "sent")

    def __init__(self) -> None:
        self.received = self.sent = 0
        self._taken_received = self._taken_sent = 0

    def take(self) -> tuple[int, int]:
        """Returns the bytes that were received and sent since the last call."""
        new = self.received - self._taken_received, self.sent - self._taken_sent
        self._taken_received, self._taken_sent = self.received, self.sent
        return new


class TrafficCounts:
    """The tallies of all channels. One user takes from them: a gateway's daily sums, or an edge's reports."""

    def __init__(self) -> None:
        self._tallies: BoundedDict[str, Tally] = BoundedDict(MAX_CHANNELS)

    def of(self, channel: str) -> Tally:
        """Returns the tally of a channel."""
        tally = self._tallies[channel] = self._tallies.get(channel) or Tally()
        return tally

    def take_all(self) -> Iterator[tuple[str, int, int]]:
        """Yields each channel with bytes since the last call: its id, the received and the sent bytes."""
        for channel, tally in list(self._tallies.items()):
            received, sent = tally.take()
            if received or sent:
                self._tallies.move_to_end(channel)
                yield channel, received, sent

    def samples(self) -> Iterator[MetricSample]:
        """Yields the counters of each channel."""
        for channel, tally in self._tallies.items():
            yield MetricSample(metric_table.STREAM_BYTES, tally.received, (channel, "in"))
            yield MetricSample(metric_table.STREAM_BYTES, tally.sent, (channel, "out"))
