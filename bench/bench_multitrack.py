"""What one push of several tracks costs a gateway, beside as many plain pushes with equal media.

    python -m bench.bench_multitrack [--video 4] [--audio 6] [--seconds 20] [--times 3] [--packaged]

CPU of the gateway's process, over sockets and in real time, without viewers; the mean of `times` runs in turn.
Plain: a push for each audio track, the first of which have a video track too. packaged: with HLS and CMAF.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import time
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Final

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.lib.egress import Address
from gateway.lib.scheduled_reads import ReadScheduler
from gateway.media.track import AccessUnit
from gateway.outputs.relay.rtmp_push import open_push
from gateway.protocols.rtmp.client import ConnectFeatures
from gateway.protocols.rtmp.url import parse_url
from gateway.settings.models import RelaySettings
from tests.support.builders import AUDIO as AAC
from tests.support.builders import VIDEO as AVC
from tests.support.gateway import Channel, Gateway, running

_FPS: Final = 30
_GOP: Final = 2 * _FPS
_AAC_FRAMES: Final = 47  # a second of 48 kHz
_SIZES: Final = (20_000, 10_000, 5_000, 2_500)  # bytes of a picture: 4.8, 2.4, 1.2 and 0.6 Mbit/s
_SOUND: Final = 370
_RELAY: Final = RelaySettings(timeout=10, retry=10)

_Message = tuple[int, int, bytes]  # type, milliseconds, body


def media(video: Sequence[int], audio: int, seconds: int) -> list[list[_Message]]:
    """The messages of a push with these picture sizes and this number of audio tracks, for each picture's time."""
    heads = [(VIDEO, 0, muxer.additional_track_body(n, AVC) if n else muxer.track_body(AVC)) for n in range(len(video))]
    heads += [(AUDIO, 0, muxer.additional_track_body(n, AAC) if n else muxer.track_body(AAC)) for n in range(audio)]
    pieces: list[list[_Message]] = [heads]
    sounds = 0
    for frame in range(seconds * _FPS):
        ms = frame * 1000 // _FPS
        piece: list[_Message] = []
        for n, size in enumerate(video):
            unit = AccessUnit(AVC, ms, 0, frame % _GOP == 0, 0.0, _picture(size, frame % _GOP == 0))
            piece.append((VIDEO, ms, muxer.additional_body(n, unit) if n else muxer.unit_body(unit)))
        while sounds * 1000 <= _AAC_FRAMES * ms:
            at = sounds * 1000 // _AAC_FRAMES
            unit = AccessUnit(AAC, at, 0, True, 0.0, bytes(_SOUND))
            piece += [(AUDIO, at, muxer.additional_body(n, unit) if n else muxer.unit_body(unit)) for n in range(audio)]
            sounds += 1
        pieces.append(piece)
    return pieces


def _picture(size: int, key: bool) -> bytes:
    return (size - 4).to_bytes(4, "big") + (b"\x65" if key else b"\x41") + bytes(size - 5)


async def push(channel: Channel, pieces: Iterable[list[_Message]]) -> None:
    """Sends a push in real time."""
    address = Address(socket.AF_INET, "127.0.0.1", channel.gateway.ports["rtmp"], "127.0.0.1")
    to = await open_push(parse_url(channel.push), [address], _RELAY, None, ConnectFeatures(), ReadScheduler())
    begun = time.monotonic()
    for number, piece in enumerate(pieces):
        await asyncio.sleep(max(0.0, begun + number / _FPS - time.monotonic()))
        for message in piece:
            to.send(*message)
    await to.finish()


def cpu(gateway: Gateway) -> float:
    """CPU seconds of the gateway so far."""
    with open(f"/proc/{gateway.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cost(gateway: Gateway, pushes: list[list[list[_Message]]], packaged: bool) -> float:
    """CPU seconds for all these pushes at one time."""
    channels = [gateway.channel(isHls=packaged, isCMAF=packaged) for _ in pushes]
    begun = cpu(gateway)
    async with asyncio.TaskGroup() as tasks:
        for channel, pieces in zip(channels, pushes, strict=True):
            tasks.create_task(push(channel, pieces))
    return cpu(gateway) - begun


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=int, default=4)
    parser.add_argument("--audio", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--packaged", action="store_true")
    options = parser.parse_args()
    sizes = [_SIZES[n % len(_SIZES)] for n in range(options.video)]
    together = [media(sizes, options.audio, options.seconds)]
    plain = [
        media(sizes[n : n + 1], 1 if n < options.audio else 0, options.seconds)
        for n in range(max(options.video, options.audio))
    ]
    several, alone = [], []
    with running() as gateway:
        for _ in range(options.times):  # in turn, so that a busy machine disturbs both
            several.append(await cost(gateway, together, options.packaged) / options.seconds)
            alone.append(await cost(gateway, plain, options.packaged) / options.seconds)
    print(f"one push of {options.video} video and {options.audio} audio tracks: {mean(several) * 1000:.1f} ms a second")
    print(f"{len(plain)} plain pushes with equal media: {mean(alone) * 1000:.1f} ms a second")
    print(f"factor {mean(several) / mean(alone):.2f}")


if __name__ == "__main__":
    asyncio.run(main())
