"""Writes the description of a stream's tracks for players (SDP, RFC 8866; RFC 2326 appendix C)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.media import ac3, codecs, h264, h265
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack

PAYLOAD_TYPES: Final = {Kind.VIDEO: 96, Kind.AUDIO: 97}
_NAMES: Final = {
    Codec.H264: "H264",
    Codec.H265: "H265",
    Codec.AV1: "AV1",
    Codec.VP8: "VP8",
    Codec.VP9: "VP9",
    Codec.AAC: "mpeg4-generic",
    Codec.OPUS: "opus",
    Codec.MP3: "MPA",
    Codec.AC3: "ac3",
}


@dataclass(frozen=True, slots=True)
class SentTrack:
    """A track as players get it. rate: ticks a second of its timestamps. channels: of sound; 0 for pictures."""

    track: MediaTrack
    rate: int
    channels: int = 0

    @property
    def payload_type(self) -> int:
        return PAYLOAD_TYPES[self.track.kind]


def sent_track(track: MediaTrack | None, payload: bytes | None) -> SentTrack | None:
    """Returns a track as RTP carries it; None if it cannot. payload: a unit, for codecs without configuration."""
    if track is None or track.codec not in _NAMES:
        return None
    try:
        match track.codec:
            case _ if track.kind is Kind.VIDEO:
                return SentTrack(track, VIDEO_CLOCK)
            case Codec.OPUS:
                return SentTrack(track, 48_000, 2) if codecs.audio_channels(track) <= 2 else None
            case Codec.MP3:
                return SentTrack(track, VIDEO_CLOCK, 1)  # RFC 3551 §4.5.13
            case Codec.AC3:
                frame = ac3.parse_frame(payload or b"")
                return SentTrack(track, frame.rate, frame.channels)
            case _:
                return SentTrack(track, codecs.audio_rate(track), codecs.audio_channels(track))
    except InvalidData:
        return None


def write_description(tracks: Sequence[SentTrack], host: str, name: str, version: int) -> bytes:
    """Returns the description. host: this server's address. name: of the stream. version: grows with its changes.

    The address of a track is `trackID=0`, `trackID=1` behind that of the stream.
    """
    family = "IP6" if ":" in host else "IP4"
    lines = [
        "v=0",
        f"o=- {version} {version} IN {family} {host}",
        f"s={name}",
        f"c=IN {family} {'::' if family == 'IP6' else '0.0.0.0'}",
        "t=0 0",
        "a=control:*",
    ]
    for number, sent in enumerate(tracks):
        track, type = sent.track, sent.payload_type
        encoding = f"{_NAMES[track.codec]}/{sent.rate}"
        if sent.channels and track.codec is not Codec.MP3:
            encoding += f"/{sent.channels}"
        lines += [f"m={track.kind} 0 RTP/AVP {type}", f"a=rtpmap:{type} {encoding}"]
        if parameters := _parameters(track):
            lines.append(f"a=fmtp:{type} {parameters}")
        lines.append(f"a=control:trackID={number}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _parameters(track: MediaTrack) -> str:
    """Returns the parameters of a format; "" if there are none, or if the configuration cannot be read."""
    try:
        match track.codec:
            case Codec.H264:
                record = h264.parse_avcc(track.config)
                profile, sets = h264.codec_string(track.config)[5:], _base64(*record.sps, *record.pps)
                return f"packetization-mode=1; profile-level-id={profile}; sprop-parameter-sets={sets}"
            case Codec.H265:
                hevc = h265.parse_hvcc(track.config)
                named = zip(("vps", "sps", "pps"), hevc.sets, strict=True)
                return "; ".join(f"sprop-{name}={_base64(*units)}" for name, units in named)
            case Codec.AAC:  # RFC 3640 §4.1
                form = "sizelength=13; indexlength=3; indexdeltalength=3"
                return f"streamtype=5; profile-level-id=1; mode=AAC-hbr; {form}; config={track.config.hex()}"
            case Codec.OPUS:
                return "sprop-stereo=1"
    except InvalidData:
        return ""
    return ""


def _base64(*units: bytes) -> str:
    return ",".join(base64.b64encode(unit).decode() for unit in units)
