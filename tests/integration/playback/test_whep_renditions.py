"""A WHEP viewer on a thin link gets a smaller rendition of a real ladder, and later the larger pictures again."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from gateway.media import h264, nal
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.rtcp import ReportBlock
from tests.support.clients import push
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.tools import need
from tests.support.whip_client import AUDIO_TYPE, VIDEO_TYPE, Whep, watching

FILM = Film("whep-renditions", seconds=90, size="640x360")
LADDER = """[standard]
vbv = 1.5
rungs = [
  { name = "small", flag = "", width = 160, height = 90, bitrate = 60000, audio = "copy" },
  { name = "middle", flag = "", width = 320, height = 180, bitrate = 150000, audio = "copy" },
]
"""
REPORT_SECONDS = 0.3


class QuickTrials(Gateway):
    """A gateway that tries larger pictures after two seconds."""

    program = ("tests.support.quick_trials", "serve")


class Link:
    """A viewer that reports losses until its pictures have a width."""

    def __init__(self, whep: Whep) -> None:
        self.whep = whep
        self.widths: list[int] = []  # of all pictures
        self._read = 0

    def width(self) -> int:
        """Of the last picture. Only key frames tell theirs."""
        for payload in self.whep.pictures[self._read :]:
            units = nal.split_annexb(payload) if payload.startswith((b"\0\0\1", b"\0\0\0\1")) else nal.split(payload)
            told = [h264.parse_sps(unit).width for unit in units if unit[0] & 0x1F == 7]
            self.widths.append(told[0] if told else self.widths[-1])
        self._read = len(self.whep.pictures)
        return self.widths[-1] if self.widths else 0

    async def report(self, lost: float, width: int) -> None:
        """Reports this share of losses until the pictures have this width."""
        client, reported = self.whep.client, 0.0

        def arrived() -> bool:
            nonlocal reported
            if self.width() == width:
                return True
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                packet = next(packet for packet in reversed(client.rtp) if packet[1] & 0x7F == VIDEO_TYPE)
                ssrc, number = int.from_bytes(packet[8:12], "big"), int.from_bytes(packet[2:4], "big")
                client.send_rtcp(rtcp.receiver_report(7, [ReportBlock(ssrc, int(lost * 256), 0, number, 0, 0, 0)], "x"))
                self.whep.network.flush()
            return False

        await self.whep.watch(arrived, timeout=40)


async def test_pictures_get_smaller_with_losses_and_larger_without(tmp_path: Path) -> None:
    need("ffmpeg")
    ladders = tmp_path / "ladders.toml"
    ladders.write_text(LADDER)
    gateway = QuickTrials(tmp_path, MILLRACE_TRANSCODE__LADDERS=str(ladders), MILLRACE_TRANSCODE__PRESET="ultrafast")
    try:
        await asyncio.to_thread(gateway.wait_ready)
        channel = gateway.channel(isCodec=True, isCMAF=False)
        with push(FILM, channel.push):
            playlists = [f"{name}/index.m3u8" for name in ("small", "middle")]
            await asyncio.to_thread(lambda: channel.wait_playable(*playlists, timeout=40))
            async with watching(channel.url("whep"), tcp=True) as whep:
                link = Link(whep)
                await whep.watch(lambda: link.width() == 640)
                await link.report(0.3, 320)
                await link.report(0.3, 160)
                await link.report(0.0, 320)
                await link.report(0.0, 640)
                shown = len(link.widths)
                await whep.watch(lambda: link.width() == 640 and len(link.widths) > shown + 60)
                changes = [width for width, _ in itertools.groupby(link.widths)]
                assert changes == [640, 320, 160, 320, 640]
                check(whep)
    finally:
        assert await asyncio.to_thread(gateway.stop) == 0


def check(whep: Whep) -> None:
    """One sequence and one clock from the first packet to the last one, and sound all the time."""
    pictures = [packet for packet in whep.client.rtp if packet[1] & 0x7F == VIDEO_TYPE]
    numbers = [int.from_bytes(packet[2:4], "big") for packet in pictures]
    assert {(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)} == {1}
    stamps = [stamp for stamp, _ in itertools.groupby(int.from_bytes(packet[4:8], "big") for packet in pictures)]
    steps = [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)]
    assert all(0 < step < 5 * 90_000 for step in steps), "time goes forward"
    assert len(stamps) == sum(packet[1] >> 7 for packet in pictures) == len(whep.pictures), "no picture is incomplete"
    sounds = [int.from_bytes(packet[4:8], "big") for packet in whep.client.rtp if packet[1] & 0x7F == AUDIO_TYPE]
    assert {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(sounds)} == {960}
