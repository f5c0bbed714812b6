"""Marks on their way to the watermark's worker, and the colors that people write into channels."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.errors import InvalidData
from gateway.workers.programs.watermark.colors import parse_color
from gateway.workers.watermark_spec import WatermarkSpec

SEEDS = [
    WatermarkSpec("a:b'c%d", 48, "yellow@0.5", 7, 9, 64, 32, b"\x89PNG").encode(),
    WatermarkSpec().encode(),
    b"#ff880080", b"0xff8800@0x80", b"rebeccapurple@.5", b"transparent", b"#f80",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or a mark that crosses again unchanged; ValueError or four bytes of color."""
    with suppress(InvalidData):
        mark = WatermarkSpec.decode(data)
        assert WatermarkSpec.decode(mark.encode()) == mark
    with suppress(ValueError):
        assert len(bytes(parse_color(data.decode("utf-8", "replace")))) == 4
