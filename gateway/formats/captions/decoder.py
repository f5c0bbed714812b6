"""ClosedCaptionDecoder: the closed captions of one stream as texts with times."""

from typing import Final

from gateway.formats.captions.cea608 import Field608
from gateway.formats.captions.cea708 import Services708
from gateway.formats.captions.source import CaptionChange
from gateway.media.caption_packets import CaptionPackets

__all__ = ["CaptionChange", "ClosedCaptionDecoder"]

_VALID: Final = 0x04  # cc_valid, before the two bits of cc_type
_PACKET: Final = 2  # and above: CEA-708; below: the fields of CEA-608


class ClosedCaptionDecoder:
    """Decodes the captions of a stream's pictures: CC1 to CC4, and the first eight services that are in use.

    Pop-on text counts from the picture that shows it on. A row of roll-up or paint-on text counts from the picture with
    its last character on. It is known to be complete when a code ends it, or after 0.3 s without characters. A source
    that gets nothing for 16 s is erased.
    """

    __slots__ = ("_fields", "_packets", "_services", "_time")

    def __init__(self) -> None:
        self._fields = (Field608("CC1", "CC2"), Field608("CC3", "CC4"))
        self._packets = CaptionPackets()
        self._services = Services708()
        self._time = -(1 << 61)

    def take(self, cc_data: bytes, time: int) -> list[CaptionChange]:
        """Returns the changes that are known with this picture. Hot path: call it for each picture.

        cc_data: what `ClosedCaptions.look` returns. time: the picture's presentation time, ticks of 90 kHz. It rises:
        a picture that is not later than the one before counts as one tick later. Changes of one source have rising
        times, and no two in a row have the same text.
        """
        time = self._time = max(time, self._time + 1)
        for at in range(0, len(cc_data) - 2, 3):
            head = cc_data[at]
            if not head & _VALID:
                continue
            kind = head & 3
            if kind < _PACKET:
                self._fields[kind].take(cc_data[at + 1], cc_data[at + 2], time)
            elif packet := self._packets.take(kind, cc_data[at + 1 : at + 3]):
                self._services.take(packet, time)
        changes = self._services.end_picture(time)
        for field in self._fields:
            for channel in field.channels:
                changes += channel.end_picture(time)
        return changes
