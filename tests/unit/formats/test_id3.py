"""ID3 tags of timed metadata."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.formats.id3 import text_tag
from tests.support.time_outs import at_most


def test_a_tag_has_the_bytes_of_the_specification() -> None:
    assert text_tag("Ü") == b"ID3\x04\0\0" + b"\0\0\0\x0f" + b"TXXX\0\0\0\x05\0\0" + b"\x03\0\xc3\x9c\0"


def test_sizes_have_seven_bits_in_a_byte() -> None:
    tag = text_tag("x" * 1000)
    assert tag[6:10] == bytes((0, 0, (len(tag) - 10) >> 7, len(tag) - 10 & 0x7F))
    assert tag[14:18] == bytes((0, 0, 1003 >> 7, 1003 & 0x7F))


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert text_tag("\ud800").endswith(b"\x03\0?\0")


@pytest.mark.parametrize("text", ["hello", '{"a": "ü€𝄞"}', "y" * 1024])
def test_ffprobe_reads_the_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tagged.mp3"
    frame = b"\xff\xfb\x90\xc4" + b"\0" * 413
    path.write_bytes(text_tag(text) + frame * 20)
    command = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "default=nw=1", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(30)).stdout
    assert f"={text}" in shown
