"""Coded frames of sound, in which silence is looked for. The first byte chooses the codec."""

from __future__ import annotations

from gateway.media.silence import is_silent
from gateway.media.track import Codec, Kind, MediaTrack

CODECS = (Codec.AAC, Codec.MP3, Codec.OPUS)
SEEDS = [
    b"\0" + bytes.fromhex("211004608c1c"),  # AAC: silence in stereo
    b"\0" + bytes.fromhex("211acffffff1df4099b0c5285a3a15874345d0d1dfd6f74b"),
    b"\1" + bytes.fromhex("fffb9464518ff0000069000000080000").ljust(384, b"\0"),  # MP3: silence
    b"\2" + bytes.fromhex("fcfffe"),  # Opus: silence
]


def fuzz(data: bytes) -> None:
    """Oracle: an answer."""
    if data:
        track = MediaTrack(Kind.AUDIO, CODECS[data[0] % len(CODECS)], 1000, b"\x11\x90")
        assert is_silent(track, data[1:]) in (True, False)
