"""A WHEP viewer that reports losses in order to get smaller pictures."""

from __future__ import annotations

import time
from typing import Final

from gateway.media import h264, nal
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.rtcp import ReportBlock
from tests.support.whip_client import VIDEO_TYPE, Whep

_REPORT_SECONDS: Final = 0.3


class ThinLink:
    """A viewer that reports losses until its pictures have a given width."""

    def __init__(self, whep: Whep) -> None:
        self.whep = whep
        self.widths: list[int] = []  # of all pictures
        self._read = 0

    def width(self) -> int:
        """The width of the last picture. Only key frames contain it."""
        for payload in self.whep.pictures[self._read :]:
            units = nal.split_annexb(payload) if payload.startswith((b"\0\0\1", b"\0\0\0\1")) else nal.split(payload)
            told = [h264.parse_sps(unit).width for unit in units if unit[0] & 0x1F == 7]
            self.widths.append(told[0] if told else self.widths[-1])
        self._read = len(self.whep.pictures)
        return self.widths[-1] if self.widths else 0

    def numbers(self) -> list[int]:
        """The sequence numbers of all packets with pictures, in order of arrival."""
        packets = self.whep.client.rtp
        return [int.from_bytes(packet[2:4], "big") for packet in packets if packet[1] & 0x7F == VIDEO_TYPE]

    async def report(self, lost: float, width: int) -> None:
        """Reports this share of losses until the pictures have this width."""
        client, reported = self.whep.client, 0.0

        def arrived() -> bool:
            nonlocal reported
            if self.width() == width:
                return True
            if time.monotonic() - reported > _REPORT_SECONDS:
                reported = time.monotonic()
                packet = next(packet for packet in reversed(client.rtp) if packet[1] & 0x7F == VIDEO_TYPE)
                ssrc, number = int.from_bytes(packet[8:12], "big"), int.from_bytes(packet[2:4], "big")
                client.send_rtcp(rtcp.receiver_report(7, [ReportBlock(ssrc, int(lost * 256), 0, number, 0, 0, 0)], "x"))
                self.whep.network.flush()
            return False

        await self.whep.watch(arrived, timeout=40)
