"""Silent sound beside pictures, for services that show no stream without both."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Final

from gateway.live.silent_sound import SilentSound
from gateway.live.subscription import Item
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, Tracks, in_ticks
from gateway.ports.errors import OutputUnsupported
from gateway.workers.stream_form import DEFAULT_AUDIO

_SERVICES: Final = (".youtube.com", ".facebook.com")


def wants_sound(host: str) -> bool:
    """Whether the service at this host shows no stream without sound."""
    return host.lower().rstrip(".").endswith(_SERVICES)


def check_tracks(tracks: Tracks) -> None:
    """Raises OutputUnsupported for sound without pictures."""
    if tracks.video is None:
        raise OutputUnsupported("YouTube and Facebook take no stream without video")


def with_track(tracks: Tracks) -> Tracks:
    """Returns the tracks with a silent one if they have no sound."""
    return tracks if tracks.audio is not None else replace(tracks, audio=DEFAULT_AUDIO)


async def with_silence(tracks: Tracks, items: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """Yields the items, and silent frames up to each picture while the tracks have no sound. tracks: before `items`."""
    frame = silent_frame(DEFAULT_AUDIO)
    assert frame is not None, "it is known for AAC"
    silence, ticks = SilentSound(DEFAULT_AUDIO, frame), DEFAULT_AUDIO.timescale
    async for item in items:
        if isinstance(item, Tracks):
            tracks, item = item, with_track(item)
        elif isinstance(item, AccessUnit) and tracks.audio is None:
            for silent in silence.until(in_ticks(item.dts, item.track.timescale, ticks), item.wall, time.monotonic()):
                yield silent
        yield item
