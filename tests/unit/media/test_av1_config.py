"""av1C records from sequence headers, beside those that ffmpeg writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import av1
from gateway.media.errors import InvalidData
from tests.support.sources import source

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=10")


@pytest.mark.parametrize(
    "encoder",
    [
        ("libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p"),
        ("libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv444p"),
        ("libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv422p10le"),
        ("libaom-av1", "-cpu-used", "8", "-pix_fmt", "gray"),
        ("libaom-av1", "-cpu-used", "8", "-pix_fmt", "gbrp"),
        ("libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p10le"),
    ],
    ids=lambda encoder: f"{encoder[0]}-{encoder[-1]}",
)
def test_records_equal_those_of_ffmpeg(encoder: tuple[str, ...]) -> None:
    film = source(*PICTURE, "-t", "0.3", "-c:v", *encoder, container="matroska")
    assert film.tracks.video is not None
    config = film.tracks.video.config
    parsed = av1.parse_av1c(config)
    kind, start, _, end = av1.obus(parsed.obus)[0]
    assert kind == av1.SEQUENCE_HEADER
    built = av1.build_av1c(parsed.obus[start:end])
    assert built[:3] == config[:3]
    assert built[4:] == parsed.obus[start:end]


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    for obu in (data, b"\x0a" + bytes((len(data),)) + data):
        try:
            record = av1.build_av1c(obu)
        except InvalidData:
            continue
        assert av1.parse_av1c(record).obus


def test_a_cut_header_is_refused() -> None:
    obu = bytes.fromhex("0a0b00000004 3cff bc fff9a040".replace(" ", ""))
    record = av1.build_av1c(obu)
    assert record[0] == 0x81
    for end in range(len(obu)):
        with pytest.raises(InvalidData):
            av1.build_av1c(obu[:end])
