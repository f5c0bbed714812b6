"""Frames of packets on a TCP connection (RFC 4571), as ICE-TCP uses them (RFC 6544 §3)."""

from collections.abc import Iterable
from typing import Final

from gateway.protocols.errors import RemoteProtocolError

MAX_FRAME: Final = 2_048  # bytes; packets of WebRTC fit into an Ethernet frame


class FrameReader:
    """Splits received bytes into packets. Keeps at most one incomplete frame."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> list[bytes]:
        """Returns the packets that `data` completes. Raises RemoteProtocolError for a frame above MAX_FRAME."""
        data = self._buffer + data
        packets: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= 2:
            size = data[at] << 8 | data[at + 1]
            if size > MAX_FRAME:
                raise RemoteProtocolError(f"a frame of {size} bytes")
            after = at + 2 + size
            if after > end:
                break
            if size:  # RFC 4571 §2 allows empty frames
                packets.append(data[at + 2 : after])
            at = after
        self._buffer = data[at:]
        return packets


def framed(packets: Iterable[bytes]) -> bytes:
    """Returns the bytes of one frame for each packet. A packet has at most 65,535 bytes."""
    return b"".join(part for packet in packets for part in (len(packet).to_bytes(2, "big"), packet))
