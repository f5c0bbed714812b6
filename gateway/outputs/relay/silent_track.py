"""Silent sound beside pictures, for services that show no stream without both."""

from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from typing import Final

from gateway.live.subscription import Item
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, Tracks
from gateway.ports.errors import OutputUnsupported
from gateway.workers.stream_form import DEFAULT_AUDIO

_SERVICES: Final = (".youtube.com", ".facebook.com")
_JUMP: Final = 1  # seconds; beyond that the times are not filled


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


async def with_silence(tracks: Tracks, items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """Yields the items, and silent frames up to each picture while the tracks have no sound. tracks: before `items`."""
    silence = silent_frame(DEFAULT_AUDIO)
    assert silence is not None, "it is known for AAC"
    due: Fraction | None = None  # seconds
    async for item in items:
        if isinstance(item, Tracks):
            tracks, item = item, with_track(item)
        elif isinstance(item, AccessUnit) and tracks.audio is None:
            time = Fraction(item.dts, item.track.timescale)
            if due is None or abs(time - due) > _JUMP:
                due = time
            while due <= time:
                dts = int(due * DEFAULT_AUDIO.timescale)
                yield AccessUnit(DEFAULT_AUDIO, dts, 0, True, item.wall, silence.payload)
                due += silence.seconds
        yield item
