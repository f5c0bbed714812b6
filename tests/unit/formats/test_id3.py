"""ID3 tags of timed metadata."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.formats.id3 import read_text, text_tag
from tests.support.time_outs import at_most


def test_a_tag_has_the_bytes_of_the_specification() -> None:
    assert text_tag("Ü") == b"ID3\x04\0\0" + b"\0\0\0\x0f" + b"TXXX\0\0\0\x05\0\0" + b"\x03\0\xc3\x9c\0"


def test_sizes_have_seven_bits_in_a_byte() -> None:
    tag = text_tag("x" * 1000)
    assert tag[6:10] == bytes((0, 0, (len(tag) - 10) >> 7, len(tag) - 10 & 0x7F))
    assert tag[14:18] == bytes((0, 0, 1003 >> 7, 1003 & 0x7F))


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert text_tag("\ud800").endswith(b"\x03\0?\0")


def frame(name: bytes, body: bytes, flags: int = 0) -> bytes:
    """A frame of fewer than 128 bytes, which both versions write alike."""
    return name + len(body).to_bytes(4, "big") + bytes((0, flags)) + body


def tag(*frames: bytes, version: int = 4, flags: int = 0) -> bytes:
    body = b"".join(frames)
    return b"ID3" + bytes((version, 0, flags, 0, 0, len(body) >> 7, len(body) & 0x7F)) + body


@pytest.mark.parametrize("text", ["hello", '{"a": "ü€𝄞"}', "y" * 1024])
def test_our_own_tags_are_read(text: str) -> None:
    assert read_text(text_tag(text)) == text


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    "body",
    [
        b"\0about\0h\xf6r",
        b"\1" + "about\0".encode("utf-16") + "hör".encode("utf-16"),
        b"\1" + "about\0hör\0".encode("utf-16"),
        b"\2" + "about\0hör".encode("utf-16-be"),
        b"\3" + "about\0hör\0more".encode(),
    ],
)
def test_all_encodings_are_read(version: int, body: bytes) -> None:
    other = frame(b"PRIV", b"owner\0data")
    assert read_text(tag(other, frame(b"TXXX", body), frame(b"TXXX", b"\3\0second"), version=version)) == "hör"


def test_sizes_of_version_3_have_eight_bits_in_a_byte() -> None:
    body = frame(b"TXXX", b"\3\0" + b"x" * 200)
    assert read_text(tag(body, version=3)) == "x" * 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ID3",
        tag(),
        tag(frame(b"TIT2", b"\3title")),
        tag(frame(b"TXXX", b"")),
        tag(frame(b"TXXX", b"\3no value")),
        tag(frame(b"TXXX", b"\3\0")),
        tag(frame(b"TXXX", b"\4\0x")),
        tag(frame(b"TXXX", b"\3\0x", flags=8)),  # compressed
        tag(frame(b"TXXX", b"\3\0x"), flags=0x80),  # with unsynchronisation
        tag(frame(b"TXXX", b"\3\0x"), version=2),
        tag(bytes(50), frame(b"TXXX", b"\3\0x")),  # after padding
        tag(b"PRIV\0\0\1\0\0\0", frame(b"TXXX", b"\3\0x")),
    ],
)
def test_other_tags_have_no_text(data: bytes) -> None:
    assert read_text(data) is None


def test_a_tag_that_is_cut_has_no_text_and_bytes_after_it_are_left_out() -> None:
    whole = text_tag("hello")
    assert [read_text(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    assert read_text(whole + text_tag("other")) == "hello"
    assert read_text(tag() + frame(b"TXXX", b"\3\0x")) is None


@pytest.mark.parametrize("text", ["hello", '{"a": "ü€𝄞"}', "y" * 1024])
def test_ffprobe_reads_the_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tagged.mp3"
    frame = b"\xff\xfb\x90\xc4" + b"\0" * 413
    path.write_bytes(text_tag(text) + frame * 20)
    command = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "default=nw=1", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=at_most(30)).stdout
    assert f"={text}" in shown
