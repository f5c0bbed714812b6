"""Target: ID3 tags of timed metadata. A text that is read can be written, and is read as the same."""

from __future__ import annotations

from gateway.formats.id3 import read_text, text_tag

_FRAMES = b"PRIV\0\0\0\x03\0\0a\0b" + b"TXXX\0\0\0\x09\0\0\x01" + "a\0b".encode("utf-16")

SEEDS = [text_tag("hello"), b"ID3\x03\0\0\0\0\0" + bytes((len(_FRAMES),)) + _FRAMES]


def fuzz(data: bytes) -> None:
    text = read_text(data)
    assert text is None or read_text(text_tag(text)) == text != ""
