"""The packets that a track sent last, by sequence number: they answer the NACKs of all its receivers."""

from collections import deque
from collections.abc import Sequence
from typing import Final

MAX_PACKETS: Final = 4_096
MAX_BYTES: Final = 4_000_000
MAX_SECONDS: Final = 2.0


class SentPackets:
    """Keeps whole access units up to three bounds: packets, bytes and seconds. Beyond a bound, it drops the oldest.

    The newest unit always stays. Every call costs O(1) for each packet that comes or goes.

    size: bytes of the packets that are kept.
    max_packets: at most 32,768. With more, two kept packets could have one sequence number.
    """

    __slots__ = ("_bounds", "_by_sequence", "_units", "size")

    def __init__(
        self, max_packets: int = MAX_PACKETS, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS
    ) -> None:
        assert max_packets <= 1 << 15, "sequence numbers repeat after 65,536 packets"
        self._bounds = (max_packets, max_bytes, max_seconds)
        self._by_sequence: dict[int, bytes] = {}
        self._units: deque[tuple[float, Sequence[bytes], int]] = deque()  # time, packets, bytes
        self.size = 0

    def add(self, packets: Sequence[bytes], now: float) -> None:
        """Keeps the RTP packets of one access unit. now: monotonic seconds."""
        by_sequence = self._by_sequence
        size = 0
        for packet in packets:
            by_sequence[packet[2] << 8 | packet[3]] = packet
            size += len(packet)
        units = self._units
        units.append((now, packets, size))
        self.size += size
        max_packets, max_bytes, max_seconds = self._bounds
        while len(units) > 1 and (
            len(by_sequence) > max_packets or self.size > max_bytes or now - units[0][0] > max_seconds
        ):
            self._drop_oldest()

    def get(self, sequence: int) -> bytes | None:
        """Returns the packet of this number; None if it is not kept."""
        return self._by_sequence.get(sequence)

    def __len__(self) -> int:
        return len(self._by_sequence)

    def _drop_oldest(self) -> None:
        _, packets, size = self._units.popleft()
        self.size -= size
        for packet in packets:
            self._by_sequence.pop(packet[2] << 8 | packet[3], None)
