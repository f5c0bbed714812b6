"""The media of an MPEG-TS segment before its bytes are requested."""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.ts.muxer import Packets, TsMuxer
from gateway.media.errors import InvalidData

# A segment's first picture, pictures that may be shown before it (H.264 §A.3.1: at most 16), and audio between them.
_MAX_REORDERED = 32


class SegmentDraft:
    """Pictures (dts, cts, key, sample) and groups of audio frames (time, frames) of one segment.

    Most segments are never watched and stay drafts.
    packets: the tables, and the media with their place in the transport stream; None until this segment or a later one
    is requested.
    """

    __slots__ = ("items", "muxer", "number", "packets")

    def __init__(self, number: int, muxer: TsMuxer) -> None:
        self.number = number
        self.muxer = muxer
        self.items: list[tuple[int, int, bool, bytes] | tuple[int, list[bytes]]] = []
        self.packets: tuple[bytes, list[Packets]] | None = None

    def earliest(self, default: int) -> int:
        """Returns the presentation time of its earliest picture in ticks of 90 kHz, or `default` if it has no
        picture.
        """
        return min([i[0] + i[1] for i in self.items[:_MAX_REORDERED] if len(i) == 4], default=default)

    def plan(self, broken: Callable[[InvalidData], None]) -> None:
        """Gives the media their place in the transport stream. Call it for the drafts of one muxer in order.

        broken: is called with the error of each unit that cannot be read and is left out.
        """
        muxer = self.muxer
        tables = muxer.tables()
        packets: list[Packets] = []
        for item in self.items:
            try:
                if len(item) == 4:
                    packets.append(muxer.video(*item))
                else:
                    packets += muxer.audio(item[1], item[0])
            except InvalidData as error:
                broken(error)
        self.items = []
        self.packets = (tables, packets)
