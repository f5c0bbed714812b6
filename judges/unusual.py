"""Pushes a film by RTMP with the bodies of encoders that do not obey the specifications; ffmpeg would repair them.

`python -m judges.unusual <change> <film.flv> <port> <stream key>`
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO
from gateway.media import h264, nal
from tests.support.flv_reader import FlvReader, Tag
from tests.support.rtmp import connected

# FLV v10.1, E.4.3.1: frame type and codec, then AVCPacketType 1 and the composition time.
_HEAD = 5
_SEI = b"\x06\x05\x10" + bytes(range(1, 17)) + b"\x80"  # user data
_PAUSE, _EVERY = 4_000, 20_000  # milliseconds
_LATE = 3_000


def _pictures(tags: Sequence[Tag], change: Callable[[Tag, list[bytes]], Iterable[Tag]]) -> list[Tag]:
    """Changes the pictures of H.264. change: gets the tag and its NAL units."""
    changed: list[Tag] = []
    for tag in tags:
        is_picture = tag.type_id == VIDEO and tag.payload[1:2] == b"\1"
        changed += change(tag, nal.split(tag.payload[_HEAD:])) if is_picture else (tag,)
    return changed


def _with(tag: Tag, body: bytes) -> Tag:
    return replace(tag, payload=tag.payload[:_HEAD] + body)


def _adts(tag: Tag) -> Tag:
    """ISO/IEC 13818-7 §6.2: AAC LC, 48 kHz, two channels."""
    if tag.type_id != AUDIO or tag.payload[1:2] != b"\1":
        return tag
    size = len(tag.payload) - 2 + 7
    header = bytes((0xFF, 0xF1, 0x4C, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC))
    return replace(tag, payload=tag.payload[:2] + header + tag.payload[2:])


def _unmarked(tag: Tag, units: list[bytes]) -> list[Tag]:
    is_key = any(unit[0] & 0x1F == h264.SLICE_IDR for unit in units)
    return [replace(tag, payload=b"\x27" + tag.payload[1:]) if is_key else tag]


CHANGES: dict[str, Callable[[Sequence[Tag]], list[Tag]]] = {
    "start-codes": lambda tags: _pictures(tags, lambda tag, units: [_with(tag, nal.join_annexb(units))]),
    "empty-units": lambda tags: _pictures(tags, lambda tag, units: [_with(tag, bytes(4) + tag.payload[_HEAD:])]),
    "own-sei": lambda tags: _pictures(tags, lambda tag, units: [_with(tag, nal.join([_SEI])), tag]),
    "unmarked-keys": lambda tags: _pictures(tags, _unmarked),
    "adts": lambda tags: [_adts(tag) for tag in tags],
    "sound-pauses": lambda tags: [t for t in tags if t.type_id != AUDIO or t.timestamp % _EVERY >= _PAUSE],
    # As cameras do, without metadata.
    "sound-first": lambda tags: [
        t
        for t in tags
        if t.type_id != SCRIPT and (t.type_id != VIDEO or t.timestamp >= _LATE or t.payload[1:2] == b"\0")
    ],
}


async def push(change: str, film: Path, port: int, key: str) -> None:
    """Pushes the film in real time, to its end."""
    tags = CHANGES[change](FlvReader().receive(film.read_bytes()))
    async with connected(port) as peer:
        said = await peer.publish(key)
        if said.code != "NetStream.Publish.Start":
            raise SystemExit(f"the push is refused: {said.info}")
        await peer.chunk_size(65_536)
        began = time.monotonic()
        for tag in tags:
            await asyncio.sleep(began + tag.timestamp / 1000 - time.monotonic())
            await peer.body(tag.type_id, tag.payload, tag.timestamp)


if __name__ == "__main__":
    asyncio.run(push(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
