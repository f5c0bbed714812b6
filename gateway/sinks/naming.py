"""Naming: the keys of what is kept of a channel (dates in UTC, month and day of folders not padded), and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

_DAY: Final = r"(?P<year>[0-9]{4})/(?P<month>[1-9]|1[0-2])/(?P<day>[1-9]|[12][0-9]|3[01])"
_MOMENT: Final = r"(?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}[_-][0-9]{2}-[0-9]{2}-[0-9]{2})"


class KeptKind(StrEnum):
    """What an object below `<id>/` is; the value is what the API calls it."""

    VIDEO = "video"
    ONDEMAND = "ondemand"  # the playlist of a session
    SEGMENT = "segment"  # of such a playlist
    IMAGE = "image"
    MOTION = "motion"


_FORMS: Final = {
    KeptKind.VIDEO: re.compile(rf"mp4/{_DAY}/capture-{_MOMENT}-(?P<ms>[0-9]{{13}})[\w.-]*\.mp4", re.ASCII),
    KeptKind.ONDEMAND: re.compile(r"vod-(?P<ms>[0-9]{13})\.m3u8", re.ASCII),
    KeptKind.SEGMENT: re.compile(r"720p/(?P<ms>[0-9]{13})\.ts", re.ASCII),
    KeptKind.IMAGE: re.compile(rf"images/{_DAY}/capture-{_MOMENT}[\w.-]*\.jpe?g", re.ASCII),
    KeptKind.MOTION: re.compile(rf"motion/(?:images|mp4)/{_DAY}/{_MOMENT}[\w.-]*\.(?:jpe?g|mp4)", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class Kept:
    """What a key says. start: seconds since the epoch of the first frame."""

    channel: str
    kind: KeptKind
    start: float


def video_key(channel: str, start_ms: int) -> str:
    """Of an MP4 that began then (milliseconds since the epoch)."""
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return f"{channel}/mp4/{day_folder(at)}/capture-{at:%Y-%m-%d_%H-%M-%S}-{start_ms}.mp4"


def image_key(channel: str, at: datetime) -> str:
    """Of a still image, one a second at most."""
    at = at.astimezone(UTC)
    return f"{channel}/images/{day_folder(at)}/capture-{at:%Y-%m-%d_%H-%M-%S}.jpg"


def playlist_key(channel: str, start_ms: int) -> str:
    """Of the on-demand playlist of a session that began then."""
    return f"{channel}/vod-{start_ms}.m3u8"


def segment_key(channel: str, number: int) -> str:
    """Of an on-demand segment."""
    return f"{channel}/{segment_uri(number)}"


def segment_uri(number: int) -> str:
    """How the playlist names it. The original's folder is "720p", whatever the picture's size."""
    return f"720p/{number}.ts"


def day_folder(at: datetime) -> str:
    """`YYYY/M/D`."""
    return f"{at.year:04d}/{at.month}/{at.day}"


def parse(key: str) -> Kept | None:
    """What a key of ours says; None for any other."""
    channel, _, path = key.partition("/")
    for kind, form in _FORMS.items():
        found = form.fullmatch(path)
        if found is None:
            continue
        parts = found.groupdict()
        if ms := parts.get("ms"):
            return Kept(channel, kind, int(ms) / 1000)
        try:
            moment = datetime.strptime(parts["moment"][:10] + parts["moment"][11:] + "+0000", "%Y-%m-%d%H-%M-%S%z")
        except ValueError:
            return None
        return Kept(channel, kind, moment.timestamp())
    return None
