"""Opus in RTP (RFC 7587): each packet has one Opus packet."""

from __future__ import annotations


class OpusPacketizer:
    """Never splits: RFC 7587 §4.2 has no fragments, and Opus of 20 ms has at most 1,275 bytes."""

    def for_burst(self, pictures: int) -> OpusPacketizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        return [unit_payload] if unit_payload else []
