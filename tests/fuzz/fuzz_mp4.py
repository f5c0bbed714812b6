"""Box trees: any bytes are read or refused with InvalidData, and never cost more than their own size in samples."""

from __future__ import annotations

from gateway.formats.mp4 import reader
from gateway.formats.mp4.box import box
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import init_segment
from gateway.media.errors import InvalidData
from tests.support import mp4
from tests.support.builders import AUDIO, VIDEO


def seeds() -> list[bytes]:
    """Returns files of our writers: both kinds of tracks, and fragments in each of their forms."""
    pictures = [Mp4Sample(3000, 6000 - 3000 * (n % 3), n == 0, bytes((n,)) * (20 + n)) for n in range(6)]
    sounds = [Mp4Sample(1024, 0, True, bytes((n,)) * 12) for n in range(6)]
    return [
        init_segment(VIDEO), init_segment(AUDIO, timescale=44100),
        fragment(1, 1, 90_000, pictures, styp=True), box(b"free") + fragment(2, 2, 1 << 40, sounds),
        fragment(3, 1, 0, []), init_segment(VIDEO) + fragment(1, 1, 0, pictures[:2]) + fragment(2, 1, 6000, sounds),
    ]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or a result; samples lie in the data; what was read can be written and read again."""
    for parse in (mp4.parse_init, mp4.mdat, lambda d: list(reader.boxes(d))):
        try:
            parse(data)
        except InvalidData:
            continue
    try:
        found = reader.parse_fragments(data)
    except InvalidData:
        return
    assert sum(len(f.samples) for f in found) <= reader.MAX_SAMPLES
    for one in found:
        if any(s.cts >= 1 << 31 for s in one.samples):
            continue  # version 0 offsets that version 1 cannot say
        written = fragment(1, one.track_id, one.base_decode_time, one.samples)
        (again,) = reader.parse_fragments(written)
        assert again == one
