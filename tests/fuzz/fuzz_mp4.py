"""Box trees: any bytes are read or refused with InvalidData, and never cost more than their own size in samples."""

from __future__ import annotations

from gateway.formats.mp4 import reader
from gateway.formats.mp4.fragment import fragment
from gateway.media.errors import InvalidData


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or a result; samples lie in the data; what was read can be written and read again."""
    for parse in (reader.parse_init, reader.mdat, lambda d: list(reader.boxes(d))):
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
        written = fragment(one.sequence_number, one.track_id, one.base_decode_time, one.samples)
        (again,) = reader.parse_fragments(written)
        assert again == one
