"""The pictures of a WHIP push come out of every output unchanged: FLV, HLS, CMAF, RTMP, a relay and a recording."""

from __future__ import annotations

import asyncio

from gateway.media.track import AccessUnit, Kind
from tests.support.clients import found, until
from tests.support.gateway import running
from tests.support.sources import h264
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.support.whip_client import pictures_of, publishing, slices

SECONDS = 12


def assert_part(name: str, got: list[bytes], sent: list[AccessUnit], least: int) -> None:
    """Asserts that these are the pictures that were sent, without a gap."""
    all_sent = [slices(unit.payload) for unit in sent]
    assert len(set(all_sent)) == len(all_sent), "no two pictures are alike"
    assert len(got) >= least, f"{name}: {len(got)} pictures"
    assert got[0] in all_sent, f"{name}: the first picture is none that was sent"
    at = all_sent.index(got[0])
    assert got == all_sent[at : at + len(got)], f"{name}: other pictures, or a gap"


async def test_pictures_of_whip_come_out_of_every_output_unchanged() -> None:
    need("ffmpeg")
    units = h264(seconds=SECONDS, bframes=0, audio=False).of(Kind.VIDEO)
    with running(MILLRACE_EGRESS__ALLOW="127.0.0.0/8", MILLRACE_STREAM__LINGER="1") as gateway:
        there = gateway.channel("there")
        channel = gateway.channel("here", isVideo=True, video_time="60", isRelay=True, relayURL=there.push)
        async with publishing(f"{channel.url('whip')}?sign={channel.key}", units, audio=False) as whip:
            await asyncio.to_thread(channel.wait_playable, "live.m3u8", "master.m3u8")
            await asyncio.to_thread(there.wait_live)
            addresses = {
                "FLV": channel.url("live.flv"), "RTMP": channel.rtmp, "HLS": channel.url("live.m3u8"),
                "CMAF": channel.url("master.m3u8"), "relay": there.url("live.flv"),
            }  # fmt: skip
            takes = await asyncio.gather(*(asyncio.to_thread(pictures_of, url, 60) for url in addresses.values()))
            for name, got in zip(addresses, takes, strict=True):
                assert_part(name, got, whip.sent, 60)
            async with asyncio.timeout(at_most(SECONDS + 20)):
                while len(whip.sent) < len(units):
                    await asyncio.sleep(0.1)
        files = await asyncio.to_thread(
            until, lambda: found(gateway.data / "media", "*/mp4/**/*.mp4"), "the recording is finished", 30
        )
        recorded = [picture for file in files for picture in pictures_of(file, 10_000)]
        assert recorded == [slices(unit.payload) for unit in whip.sent], "every picture of the push is recorded"
