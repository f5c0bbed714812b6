"""FlvReader: turns an FLV byte stream, in pieces of any size, into tags."""

from __future__ import annotations

from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO, Tag
from gateway.media.errors import InvalidData

_HEADER = 11
_KNOWN = frozenset({AUDIO, VIDEO, SCRIPT})


class FlvReader:
    """Reads FLV tags. Keeps at most one unfinished tag (`max_tag` bytes).

    It is as tolerant as players are. It does not check the header's track flags or the previous-tag sizes. It skips tag
    types other than audio, video and script.
    Raises InvalidData for a missing FLV signature, a tag above `max_tag`, or encrypted (filtered) tags. After an
    exception the reader cannot be used.
    """

    __slots__ = ("_buffer", "_max_tag", "_skip", "_started", "has_audio", "has_video")

    def __init__(self, *, max_tag: int = 8 << 20) -> None:
        self._buffer = bytearray()
        self._max_tag = max_tag
        self._skip = 0
        self._started = False
        self.has_video = False
        self.has_audio = False

    def receive(self, data: bytes) -> list[Tag]:
        """Takes any piece of the stream; returns the tags that it completes, in order. Raises InvalidData."""
        buffer = self._buffer
        buffer += data
        if not self._started and not self._begin():
            return []
        tags: list[Tag] = []
        position = self._skip
        end = len(buffer)
        while end - position >= _HEADER:
            size = int.from_bytes(buffer[position + 1 : position + 4], "big")
            if size > self._max_tag:
                raise InvalidData(f"FLV tag of {size} bytes, at most {self._max_tag} are taken")
            kind = buffer[position]
            if kind & 0x20:
                raise InvalidData("FLV tag is encrypted")
            body = position + _HEADER
            if kind & 0x1F in _KNOWN:
                if end - body < size:
                    break
                timestamp = int.from_bytes(buffer[position + 4 : position + 7], "big") | buffer[position + 7] << 24
                tags.append(Tag(kind & 0x1F, timestamp, bytes(buffer[body : body + size])))
            position = body + size + 4  # skips PreviousTagSize, which is unreliable
            if position > end:
                break
        if position > end:
            self._skip = position - end
            buffer.clear()
        else:
            del buffer[:position]
            self._skip = 0
        return tags

    def _begin(self) -> bool:
        buffer = self._buffer
        if not b"FLV".startswith(bytes(buffer[:3])):
            raise InvalidData("no FLV signature")
        if len(buffer) < 9:
            return False
        offset = int.from_bytes(buffer[5:9], "big")  # E.2: "The length of this header in bytes", 9 in version 1
        if not 9 <= offset <= 1024:
            raise InvalidData(f"FLV header of {offset} bytes")
        self.has_audio, self.has_video = bool(buffer[4] & 4), bool(buffer[4] & 1)
        self._skip = offset + 4
        self._started = True
        return True
