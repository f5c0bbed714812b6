"""Reads the tags of an FLV byte stream that arrives in pieces."""

from typing import Final

from gateway.media.errors import InvalidData

SIGNATURE: Final = b"FLV"
_HEADER_BYTES: Final = 9
_TAG_BYTES: Final = 11
_MAX_HEADER: Final = 1024  # bytes
_MAX_BODY: Final = 8_000_000  # bytes


class FlvReader:
    """Reads header and tags (Adobe Flash Video File Format 10.1, annex E). Holds at most one unfinished tag of 8 MB."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def receive(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Returns the tags that `data` completes: type, timestamp in ms (32 bits), body.

        Raises InvalidData if it is not FLV, or for a tag that is too large.
        """
        buffer = self._buffer
        buffer += data
        if not self._begun:
            if len(buffer) < _HEADER_BYTES:
                return []
            size = int.from_bytes(buffer[5:9], "big")
            if buffer[:3] != SIGNATURE or not _HEADER_BYTES <= size <= _MAX_HEADER:
                raise InvalidData("it is not an FLV stream")
            if len(buffer) < size + 4:
                return []
            del buffer[: size + 4]  # with PreviousTagSize0
            self._begun = True
        tags: list[tuple[int, int, bytes]] = []
        at, end = 0, len(buffer)
        while end - at >= _TAG_BYTES:
            size = int.from_bytes(buffer[at + 1 : at + 4], "big")
            if size > _MAX_BODY:
                raise InvalidData(f"an FLV tag of {size} bytes")
            following = at + _TAG_BYTES + size + 4
            if following > end:
                break
            time = int.from_bytes(buffer[at + 4 : at + 7], "big") | buffer[at + 7] << 24
            tags.append((buffer[at] & 31, time, bytes(buffer[at + _TAG_BYTES : following - 4])))
            at = following
        if at:
            del buffer[:at]
        return tags
