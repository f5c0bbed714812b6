"""Sources: unusual media made by ffmpeg, as the access units that an ingest would produce."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import av

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from tests.support.media import made_once
from tests.support.tools import need

_CODECS = {
    "h264": Codec.H264,
    "hevc": Codec.H265,
    "av1": Codec.AV1,
    "libdav1d": Codec.AV1,
    "vp8": Codec.VP8,
    "vp9": Codec.VP9,
    "aac": Codec.AAC,
    "opus": Codec.OPUS,
    "libopus": Codec.OPUS,
    "mp3": Codec.MP3,
    "mp3float": Codec.MP3,
    "flac": Codec.FLAC,
    "ac3": Codec.AC3,
}

TIMESCALE = 1000
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-sc_threshold", "0")
AAC = ("-c:a", "aac", "-b:a", "96k", "-ac", "2")


@dataclass(frozen=True)
class Source:
    """Tracks and units like those of an ingest: milliseconds, decode order, both kinds interleaved."""

    tracks: Tracks
    units: tuple[AccessUnit, ...]

    def shifted(self, ms: int, tracks: Tracks | None = None) -> Source:
        """Shifts all units to later times."""
        return Source(tracks or self.tracks, tuple(replace(u, dts=u.dts + ms) for u in self.units))

    def only(self, kind: Kind) -> Source:
        """Returns only the units of one kind."""
        video = self.tracks.video if kind is Kind.VIDEO else None
        audio = self.tracks.audio if kind is Kind.AUDIO else None
        return Source(replace(self.tracks, video=video, audio=audio), tuple(self.of(kind)))

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [u for u in self.units if u.track.kind is kind]

    @property
    def end(self) -> int:
        """Milliseconds, slightly after the last unit."""
        return max(u.dts + u.cts for u in self.units) + 40


def pictures(size: str = "320x180", rate: str = "30", noise: int = 0, more: str = "") -> tuple[str, ...]:
    """The ffmpeg input of a test picture. more: additional filters."""
    filters = f"testsrc2=size={size}:rate={rate}" + (f",noise=alls={noise}:allf=t" if noise else "")
    return ("-f", "lavfi", "-i", filters + (f",{more}" if more else ""))


def tone(rate: int = 44100) -> tuple[str, ...]:
    """The ffmpeg input of a tone."""
    return ("-f", "lavfi", "-i", f"sine=440:sample_rate={rate}")


def h264(
    size: str = "320x180",
    seconds: float = 4,
    *,
    rate: int = 30,
    gop: int = 30,
    bframes: int = 2,
    audio: bool = True,
    more: str = "",
) -> Source:
    """An ordinary H.264 source."""
    return source(
        *pictures(size, str(rate), more=more),
        *(tone() if audio else ()),
        *("-t", str(seconds), *X264, "-g", str(gop), "-bf", str(bframes), "-pix_fmt", "yuv420p"),
        *(AAC if audio else ()),
    )


@functools.cache
def source(*arguments: str, container: str = "mp4") -> Source:
    """Creates a source with these ffmpeg arguments. mp4 and matroska keep units in the form of an ingest."""
    need("ffmpeg")
    return read(made_once(container, ["ffmpeg", *arguments, "-f", container]))


def read(path: Path) -> Source:
    """Reads the units of a file."""
    tracks: dict[int, MediaTrack] = {}
    units: list[AccessUnit] = []
    with av.open(str(path)) as container:
        for stream in container.streams:
            kind = Kind.VIDEO if stream.type == "video" else Kind.AUDIO
            extra = stream.codec_context.extradata or b""
            codec = _CODECS[stream.codec_context.name]
            tracks[stream.index] = MediaTrack(kind, codec, TIMESCALE, b"" if codec in (Codec.VP8, Codec.VP9) else extra)
        packets = [p for p in container.demux() if p.size and p.dts is not None]
        first = min(float(p.dts * p.time_base) for p in packets)
        for packet in packets:
            dts = round((float(packet.dts * packet.time_base) - first) * TIMESCALE)
            pts = round((float(packet.pts * packet.time_base) - first) * TIMESCALE)
            track = tracks[packet.stream_index]
            key = packet.is_keyframe or track.kind is Kind.AUDIO
            units.append(AccessUnit(track, dts, pts - dts, key, 1.7e9 + dts / TIMESCALE, bytes(packet)))
    units.sort(key=lambda u: u.dts)
    found = {t.kind: t for t in tracks.values()}
    return Source(Tracks(found.get(Kind.VIDEO), found.get(Kind.AUDIO)), tuple(units))
