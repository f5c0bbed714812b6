"""Compares a stream with what Amazon IVS accepts, because IVS itself only disconnects.

Sources: Amazon IVS User Guide, "Streaming Configuration" and "Service Quotas"; Real-Time Streaming User Guide, "RTMP
Ingest" (limits of 2026).
"""

from __future__ import annotations

from collections import deque
from typing import Final
from urllib.parse import urlsplit

from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputUnsupported

_DOMAIN: Final = ".live-video.net"
_VIDEO: Final = Kind.VIDEO
_WINDOW: Final = 10  # seconds over which the bitrate is measured
_KEY_EVERY: Final = 2.0
_SLACK: Final = 1.05  # encoders keep their bitrate only on average
_KEY_SLACK: Final = 1.1


def is_ivs_address(target: str) -> bool:
    """Whether an address is an ingest endpoint of IVS, low latency or real time."""
    try:
        return (urlsplit(target).hostname or "").lower().rstrip(".").endswith(_DOMAIN)
    except ValueError:
        return False


def is_realtime(host: str) -> bool:
    """Whether a host of IVS belongs to real-time streaming, whose rules are stricter."""
    return "realtime" in host.lower()


class IvsRules:
    """Checks tracks and units against the limits of IVS. `warnings`: one line for each problem that exists now.

    kind: the channel type; "" if only the address is known, which is then checked as STANDARD.
    """

    def __init__(self, kind: str = "", realtime: bool = False) -> None:
        self._kind = kind or "STANDARD"
        self._realtime = realtime
        self._found: dict[str, str] = {}
        self._max_bits = 8_500_000
        self._seconds: deque[tuple[float, int]] = deque(maxlen=_WINDOW)  # (duration, bytes) of the latest seconds
        self._second: float | None = None  # start of the second that is counted now
        self._bytes = 0
        self._last_key: float | None = None
        self._longest = 0.0

    @property
    def warnings(self) -> list[str]:
        return list(self._found.values())

    def tracks(self, tracks: Tracks) -> None:
        """Takes the stream's tracks. Raises OutputUnsupported for tracks that IVS always refuses."""
        video, audio = tracks.video, tracks.audio
        if video is None:
            raise OutputUnsupported("IVS takes no stream without video")
        if video.codec is not Codec.H264:
            raise OutputUnsupported(f"IVS takes H.264 video, and this is {video.codec}")
        if audio is not None and audio.codec is not Codec.AAC:
            raise OutputUnsupported(f"IVS takes AAC audio, and this is {audio.codec}")
        self._found.clear()
        self._seconds.clear()
        self._second, self._last_key, self._longest = None, None, 0.0
        self._size(video)

    def unit(self, unit: AccessUnit) -> None:
        """Takes each unit that is sent, in order."""
        time = unit.dts / unit.track.timescale
        self._count(time, len(unit.payload))
        if unit.track.kind is not _VIDEO:
            return
        since = None if self._last_key is None else time - self._last_key
        if unit.key:
            if since is not None and since > _KEY_EVERY * _KEY_SLACK:
                self._interval(since)
            elif since is not None and since > 0:
                self._found.pop("key", None)
            self._last_key, self._longest = time, 0.0
        elif since is not None and since > max(_KEY_EVERY * _KEY_SLACK, self._longest + 1):
            self._interval(since)
        if self._realtime and unit.cts and "b-frames" not in self._found:
            self._found["b-frames"] = "IVS real-time streaming disconnects streams with B-frames: set them to 0"

    def _size(self, video: MediaTrack) -> None:
        try:
            size = codecs.video_size(video)
        except InvalidData:
            size = None
        width, height = size or (0, 0)
        long, short = max(width, height), min(width, height)
        limit = (1280, 720) if self._realtime else (1920, 1080)
        if long > limit[0] or short > limit[1]:
            self._found["size"] = f"IVS takes at most {limit[0]}x{limit[1]}, and this is {width}x{height}"
        if self._kind == "BASIC":
            self._max_bits = 3_500_000 if short > 480 else 1_500_000

    def _interval(self, seconds: float) -> None:
        self._longest = seconds
        trouble = "players will stall" if seconds > 2 * _KEY_EVERY else "it adds to the delay"
        self._found["key"] = (
            f"IVS wants a key frame every {_KEY_EVERY:g} s, and here it takes {seconds:.1f} s: {trouble}"
        )

    def _count(self, now: float, size: int) -> None:
        began = self._second
        if began is None or not began <= now + 1 <= began + 10:  # the first unit, or the time has jumped
            self._seconds.clear()
            self._second, self._bytes, self._last_key = now, size, None
            return
        if now - began >= 1:
            self._seconds.append((now - began, self._bytes))
            self._second, self._bytes = now, 0
            if len(self._seconds) >= _WINDOW // 2:
                self._bitrate()
        self._bytes += size

    def _bitrate(self) -> None:
        bits = sum(size for _, size in self._seconds) * 8 / sum(span for span, _ in self._seconds)
        if bits > self._max_bits * _SLACK:
            self._found["bitrate"] = (
                f"IVS takes at most {self._max_bits / 1e6:g} Mbit/s of this channel ({self._kind}), "
                f"and this has {bits / 1e6:.1f}: it will disconnect"
            )
        else:
            self._found.pop("bitrate", None)
