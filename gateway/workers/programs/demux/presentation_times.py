"""Finds the presentation times of pictures in containers without them: AVI, ASF, MPEG-PS, raw H.264 and H.265."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import av
import av.error

_MAX_HELD: Final = 32  # a decoder returns a picture at most 16 pictures late (H.264 §A.3.1, H.265 §A.4.2)


class PresentationTimes:
    """Gives the packets of one video stream their presentation times, by decoding them.

    A decoder returns pictures in the order of their presentation, one for each packet. Packets wait for their picture,
    at most _MAX_HELD. The first one is then given on with its decode time, because its picture is damaged.
    """

    def __init__(self, stream: Any) -> None:
        self._decoder = stream.codec_context
        self._decoder.thread_count = 1  # more threads return pictures later
        self._decoder.options = {"skip_loop_filter": "all"}  # nobody sees these pictures
        self._held: dict[int, tuple[Any, int]] = {}  # packets by number, each with libav's presentation time
        self._count = 0
        self._time = 0  # decode time of the last packet
        self._step = 1  # from one packet to the next
        self._delay: int | None = None  # from presentation times to the decode times at which pictures are returned

    def take(self, packet: Any) -> Iterator[Any]:
        """Yields the packets whose times are known now, in decode order. packet: an empty one at the end."""
        probe = None
        if packet.size:
            previous = self._time
            guess = previous + (packet.duration or self._step) if self._count else 0
            self._time = guess if packet.dts is None else packet.dts
            self._step = self._time - previous or self._step
            self._held[self._count] = packet, self._time if packet.pts is None else packet.pts
            packet.pts, packet.dts = None, self._time
            probe = av.Packet(bytes(packet))
            probe.pts, probe.time_base = self._count, packet.time_base
            self._count += 1
        with suppress(av.error.FFmpegError):  # the packet is given on as it is
            for frame in self._decoder.decode(probe):
                self._time += 0 if packet.size else self._step
                self._show(frame.pts)
        while self._held:
            number, (first, _) = next(iter(self._held.items()))
            if first.pts is None and packet.size and len(self._held) <= _MAX_HELD:
                return
            del self._held[number]
            first.dts -= self._delay or 0
            first.pts = first.dts if first.pts is None else first.pts
            yield first

    def _show(self, number: int | None) -> None:
        """Notes that the picture of a packet follows the previous one."""
        packet, guess = self._held.get(-1 if number is None else number, (None, 0))
        if packet is not None:
            self._delay = self._time - guess if self._delay is None else self._delay
            packet.pts = self._time - self._delay
