"""Checks a stream against the limits of Amazon IVS, because IVS disconnects without a reason.

Sources: Amazon IVS User Guide, "Streaming Configuration" and "Service Quotas"; Real-Time Streaming User Guide, "RTMP
Ingest" (limits of 2026).
"""

from collections import deque
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputUnsupported
from gateway.protocols.rtmp.url import RtmpUrl

_DOMAIN: Final = ".live-video.net"
_VIDEO: Final = Kind.VIDEO
_WINDOW_SECONDS: Final = 10  # seconds over which the bitrate is measured
_KEY_SECONDS: Final = 2.0  # maximum seconds between two key frames
_SLACK: Final = 1.05  # because encoders keep their bitrate only on average
_KEY_SLACK: Final = 1.1


def is_ivs_address(target: str) -> bool:
    """Returns whether an address is an ingest endpoint of IVS, low latency or real time."""
    try:
        return (urlsplit(target).hostname or "").lower().rstrip(".").endswith(_DOMAIN)
    except ValueError:
        return False


def with_app(url: RtmpUrl) -> RtmpUrl:
    """Returns an ingest endpoint of IVS with its app `app`. Kick and the API of IVS give the server without it."""
    key, mark, query = url.name.partition("?")
    return url if key else replace(url, app="app", name=f"{url.app}{mark}{query}")


def is_realtime(host: str) -> bool:
    """Returns whether an IVS host belongs to real-time streaming, which has stricter limits."""
    return "realtime" in host.lower()


class IvsRules:
    """Checks tracks and units against the limits of IVS. `warnings`: one line for each current problem.

    kind: the channel type; "" if it is unknown, which means STANDARD.
    """

    def __init__(self, kind: str = "", realtime: bool = False) -> None:
        self._kind = kind or "STANDARD"
        self._realtime = realtime
        self._warnings: dict[str, str] = {}
        self._max_bits = 8_500_000  # a second
        # (duration, bytes) of the latest seconds
        self._seconds: deque[tuple[float, int]] = deque(maxlen=_WINDOW_SECONDS)
        self._second: float | None = None  # start of the current second
        self._bytes = 0
        self._last_key: float | None = None
        self._longest_gop = 0.0  # seconds of the current GOP that were last reported

    @property
    def warnings(self) -> list[str]:
        return list(self._warnings.values())

    def check_tracks(self, tracks: Tracks) -> None:
        """Checks the stream's tracks. Raises OutputUnsupported for tracks that IVS never accepts."""
        video, audio = tracks.video, tracks.audio
        if video is None:
            raise OutputUnsupported("IVS takes no stream without video")
        if video.codec is not Codec.H264:
            raise OutputUnsupported(f"IVS takes H.264 video, and this is {video.codec}")
        if audio is not None and audio.codec is not Codec.AAC:
            raise OutputUnsupported(f"IVS takes AAC audio, and this is {audio.codec}")
        self._warnings.clear()
        self._seconds.clear()
        self._second, self._last_key, self._longest_gop = None, None, 0.0
        self._check_size(video)

    def check_unit(self, unit: AccessUnit) -> None:
        """Checks each sent unit, in order."""
        time = unit.dts / unit.track.timescale
        self._count_bytes(time, len(unit.payload))
        if unit.track.kind is not _VIDEO:
            return
        since = None if self._last_key is None else time - self._last_key
        if unit.key:
            if since is not None and since > _KEY_SECONDS * _KEY_SLACK:
                self._warn_key_interval(since)
            elif since is not None and since > 0:
                self._warnings.pop("key", None)
            self._last_key, self._longest_gop = time, 0.0
        elif since is not None and since > max(_KEY_SECONDS * _KEY_SLACK, self._longest_gop + 1):
            self._warn_key_interval(since)
        if self._realtime and unit.cts and "b-frames" not in self._warnings:
            self._warnings["b-frames"] = "IVS real-time streaming disconnects streams with B-frames: set them to 0"

    def _check_size(self, video: MediaTrack) -> None:
        try:
            size = codecs.video_size(video)
        except InvalidData:
            size = None
        width, height = size or (0, 0)
        long, short = max(width, height), min(width, height)
        limit = (1280, 720) if self._realtime else (1920, 1080)
        if long > limit[0] or short > limit[1]:
            self._warnings["size"] = f"IVS takes at most {limit[0]}x{limit[1]}, and this is {width}x{height}"
        if self._kind == "BASIC":
            self._max_bits = 3_500_000 if short > 480 else 1_500_000

    def _warn_key_interval(self, seconds: float) -> None:
        self._longest_gop = seconds
        effect = "players will stall" if seconds > 2 * _KEY_SECONDS else "it adds to the delay"
        self._warnings["key"] = (
            f"IVS wants a key frame every {_KEY_SECONDS:g} s, and here it takes {seconds:.1f} s: {effect}"
        )

    def _count_bytes(self, now: float, size: int) -> None:
        began = self._second
        if began is None or not began <= now + 1 <= began + 10:  # the first unit, or a timestamp jump
            self._seconds.clear()
            self._second, self._bytes, self._last_key = now, size, None
            return
        if now - began >= 1:
            self._seconds.append((now - began, self._bytes))
            self._second, self._bytes = now, 0
            if len(self._seconds) >= _WINDOW_SECONDS // 2:
                self._check_bitrate()
        self._bytes += size

    def _check_bitrate(self) -> None:
        bits = sum(size for _, size in self._seconds) * 8 / sum(duration for duration, _ in self._seconds)
        if bits > self._max_bits * _SLACK:
            self._warnings["bitrate"] = (
                f"IVS takes at most {self._max_bits / 1e6:g} Mbit/s of this channel ({self._kind}), "
                f"and this has {bits / 1e6:.1f}: it will disconnect"
            )
        else:
            self._warnings.pop("bitrate", None)
