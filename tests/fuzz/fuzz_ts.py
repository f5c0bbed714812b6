"""Segments of recordings: any bytes are read or refused with InvalidData, whole and in steps alike."""

from __future__ import annotations

from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.reader import TsReader
from gateway.media import nal
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit
from tests.support.builders import AUDIO, VIDEO


def seeds() -> list[bytes]:
    """Segments as we write them: pictures of one and of many packets, groups of sound, one track alone."""
    both, video, audio = TsMuxer(VIDEO, AUDIO), TsMuxer(VIDEO, None), TsMuxer(None, AUDIO)
    pictures = [nal.join([(b"\x65" if n == 0 else b"\x41") + b"\xab" * (150 * n + 9)]) for n in range(5)]
    found = []
    for muxer in (both, video):
        data = muxer.write_tables()
        for n, payload in enumerate(pictures):
            data += muxer.write_video(3000 * n, 3000 * (n % 3), n == 0, payload).render()
            if muxer is both:
                data += b"".join(p.render() for p in muxer.write_audio([b"a" * 40, b"b" * 50], 3000 * n))
        found.append(data)
    return [*found, audio.write_tables() + b"".join(p.render() for p in audio.write_audio([b"a" * 40] * 3, 9000))]


def read(data: bytes, step: int) -> list[AccessUnit] | None:
    reader = TsReader()
    units: list[AccessUnit] = []
    try:
        for at in range(0, len(data), step):
            units += reader.receive(data[at : at + step])
        return units + reader.finish()
    except InvalidData:
        return None


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or units, which do not depend on the cuts and are not larger than the input."""
    units = read(data, max(len(data), 1))
    assert units == read(data, 188)
    for unit in units or ():
        assert unit.track.config or unit.track.codec != "h264"
    # Lengths of four bytes replace start codes of three.
    assert sum(len(u.payload) for u in units or ()) <= 2 * len(data)
