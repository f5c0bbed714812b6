"""What one push of several tracks costs, beside as many plain pushes with equal media.

    python -m tests.load.bench_multitrack [--video 4] [--audio 6] [--seconds 20] [--packaged]

CPU of RTMP chunks, demuxer, publisher and streams, per second of media; best of five runs, one process, no sockets.
Plain: a push for each audio track, the first of which have a video track too. packaged: with the packagers of HLS and
CMAF, whose segments nobody requests.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

import structlog

from gateway.formats.flv import muxer
from gateway.ingest.rtmp.flv_intake import AUDIO_INDEX, VIDEO_INDEX, FlvIntake
from gateway.live.hub import Hub, StreamLimits
from gateway.live.output import OutputSpec
from gateway.media.track import MediaTrack
from gateway.media.unit import AccessUnit
from gateway.packaging.packager_sequence import CmafPackagerFactory, TsPackagerFactory
from gateway.ports.events import Events
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.message import AUDIO, VIDEO, Message
from tests.load.bench_rtmp_ingest import publishing
from tests.support.builders import AUDIO as AAC
from tests.support.builders import VIDEO as AVC
from tests.support.builders import channel

_RUNS: Final = 5
_FPS: Final = 30
_GOP: Final = 2 * _FPS
_AAC_FRAMES: Final = 47  # a second of 48 kHz
_SIZES: Final = (20_000, 10_000, 5_000, 2_500)  # bytes of a picture: 4.8, 2.4, 1.2 and 0.6 Mbit/s
_SOUND: Final = 370
_CHUNK: Final = 4096


class Sender:
    """The chunks of one push, in a piece for each picture."""

    def __init__(self) -> None:
        self._writer = ChunkWriter()
        self.pieces = [self._writer.write(2, 1, 0, 0, _CHUNK.to_bytes(4, "big"))]
        self._writer.chunk_size = _CHUNK

    def send(self, track_id: int, item: AccessUnit | MediaTrack, ms: int) -> bytes:
        """Returns the chunks of a frame or of a sequence header."""
        track = item if isinstance(item, MediaTrack) else item.track
        kind, csid = (VIDEO, 6) if track is AVC else (AUDIO, 4)
        if isinstance(item, MediaTrack):
            body = muxer.further_track_body(track_id, item) if track_id else muxer.track_body(item)
        else:
            body = muxer.further_body(track_id, item) if track_id else muxer.unit_body(item)
        return self._writer.write(csid, kind, ms, 1, body)


def media(video: Iterable[int], audio: int, seconds: int) -> list[bytes]:
    """A push with these picture sizes, and this number of audio tracks."""
    sender, sizes = Sender(), list(video)
    heads = [sender.send(n, AVC, 0) for n in range(len(sizes))] + [sender.send(n, AAC, 0) for n in range(audio)]
    sender.pieces.append(b"".join(heads))
    sounds = 0
    for frame in range(seconds * _FPS):
        ms, parts = frame * 1000 // _FPS, []
        for n, size in enumerate(sizes):
            parts.append(sender.send(n, AccessUnit(AVC, ms, 0, frame % _GOP == 0, 0.0, bytes(size)), ms))
        while sounds * 1000 < _AAC_FRAMES * (ms + 1):
            at = sounds * 1000 // _AAC_FRAMES
            parts += [sender.send(n, AccessUnit(AAC, at, 0, True, 0.0, bytes(_SOUND)), at) for n in range(audio)]
            sounds += 1
        sender.pieces.append(b"".join(parts))
    return sender.pieces


async def cost(pushes: list[list[bytes]], specs: list[OutputSpec]) -> float:
    """CPU seconds for all these pushes at one time. Streams are the number of renditions and sources."""
    hub = Hub(StreamLimits(2, 0, 15, 16_000_000), specs, Events())
    ends = []
    for number in range(len(pushes)):
        name = f"c{number}"
        publisher = hub.publish(
            channel(name, isHls=True, isCMAF=True), name, protocol="rtmp", peer="", evict=lambda reason: None
        )
        ends.append((publishing(), FlvIntake(publisher)))
    begun = time.process_time()
    for number, pieces in enumerate(zip(*pushes, strict=True)):
        now = number / _FPS
        for piece, (core, intake) in zip(pieces, ends, strict=True):
            for message in core.receive(piece):
                assert isinstance(message, Message)
                index = VIDEO_INDEX if message.type_id == VIDEO else AUDIO_INDEX
                intake.media(index, message.timestamp, message.payload, 1.7e9 + now, now)
        if not number % _FPS:
            await asyncio.sleep(0)
    used = time.process_time() - begun
    assert not any(intake.malformed for _, intake in ends)
    hub.drain()
    await hub.drained()
    return used


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=int, default=4)
    parser.add_argument("--audio", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--packaged", action="store_true")
    options = parser.parse_args()
    sizes = [_SIZES[n % len(_SIZES)] for n in range(options.video)]
    together = [media(sizes, options.audio, options.seconds)]
    plain = [
        media(sizes[n : n + 1], 1 if n < options.audio else 0, options.seconds)
        for n in range(max(options.video, options.audio))
    ]
    specs = []
    if options.packaged:
        specs = [
            OutputSpec("hls", TsPackagerFactory(), lambda stream: True),
            OutputSpec("cmaf", CmafPackagerFactory(0.5), lambda stream: True),
        ]
    alone, several = [], []
    for _ in range(_RUNS):  # in turn, so that a busy machine disturbs both
        several.append(await cost(together, specs))
        alone.append(await cost(plain, specs))
    one, many = min(several) / options.seconds, min(alone) / options.seconds
    print(f"one push of {options.video} video and {options.audio} audio tracks: {one * 1000:.2f} ms CPU a second")
    print(f"{len(plain)} plain pushes with equal media: {many * 1000:.2f} ms CPU a second")
    print(f"factor {one / many:.2f}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(main())
