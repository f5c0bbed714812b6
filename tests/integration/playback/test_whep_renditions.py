"""A WHEP viewer with low bandwidth gets a smaller rendition of a real ladder, and later larger pictures again."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from tests.support.clients import push
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.thin_link import ThinLink
from tests.support.tools import need
from tests.support.whip_client import AUDIO_TYPE, VIDEO_TYPE, Whep, watching

FILM = Film("whep-renditions", seconds=30, size="640x360")
LADDER = """[standard]
vbv = 1.5
rungs = [
  { name = "small", flag = "", width = 160, height = 90, bitrate = 60000, audio = "copy" },
  { name = "middle", flag = "", width = 320, height = 180, bitrate = 150000, audio = "copy" },
]
"""


class QuickTrials(Gateway):
    """A gateway that tries larger pictures after two seconds."""

    program = ("tests.support.quick_trials", "serve")


async def test_the_rendition_gets_smaller_with_losses_and_larger_without(tmp_path: Path) -> None:
    need("ffmpeg")
    ladders = tmp_path / "ladders.toml"
    ladders.write_text(LADDER)
    gateway = QuickTrials(tmp_path, MILLRACE_TRANSCODE__LADDERS=str(ladders), MILLRACE_TRANSCODE__PRESET="ultrafast")
    try:
        await asyncio.to_thread(gateway.wait_ready)
        channel = gateway.channel(isCodec=True, isCMAF=False)
        with push(FILM, channel.push, loop=True):
            playlists = [f"{name}/index.m3u8" for name in ("small", "middle")]
            await asyncio.to_thread(lambda: channel.wait_playable(*playlists, timeout=40))
            async with watching(channel.url("whep"), tcp=True) as whep:
                link = ThinLink(whep)
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
    """Checks for one sequence and one clock from the first packet to the last one, and continuous sound."""
    pictures = [packet for packet in whep.client.rtp if packet[1] & 0x7F == VIDEO_TYPE]
    numbers = [int.from_bytes(packet[2:4], "big") for packet in pictures]
    assert {(b - a) & 0xFFFF for a, b in itertools.pairwise(numbers)} == {1}
    stamps = [stamp for stamp, _ in itertools.groupby(int.from_bytes(packet[4:8], "big") for packet in pictures)]
    steps = [(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(stamps)]
    assert all(0 < step < 5 * 90_000 for step in steps), "time goes forward"
    assert len(stamps) == sum(packet[1] >> 7 for packet in pictures) == len(whep.pictures), "no picture is incomplete"
    sounds = [int.from_bytes(packet[4:8], "big") for packet in whep.client.rtp if packet[1] & 0x7F == AUDIO_TYPE]
    assert {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(sounds)} == {960}
