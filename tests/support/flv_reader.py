"""Reads films and the FLV output of the gateway: a byte stream in pieces of any size becomes tags and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.formats.flv.demuxer import MediaDemuxer, parse_script
from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO, ScriptTag, TrackStart, Unsupported
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, MediaTrack

FlvEvent: TypeAlias = "AccessUnit | MediaTrack | TrackStart | Unsupported | ScriptTag"

_HEADER = 11
_KNOWN = frozenset({AUDIO, VIDEO, SCRIPT})


@dataclass(slots=True)
class Tag:
    """One tag of an FLV byte stream, with the fields of an RTMP message.

    timestamp: milliseconds, 0 to 2**32 - 1.
    """

    type_id: int
    timestamp: int
    payload: bytes


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


class FlvFileDemuxer:
    """Demuxes an FLV stream that arrives in pieces; `MediaDemuxer` describes the events.

    Times are those of the tags, 0 to 2**32 - 1 milliseconds; the caller unwraps them. A tag with a broken body is
    dropped and counted in `broken`. A stream that is not FLV raises InvalidData.
    """

    __slots__ = ("_reader", "broken", "media")

    def __init__(self, *, max_tag: int = 8 << 20) -> None:
        self._reader = FlvReader(max_tag=max_tag)
        self.media = MediaDemuxer()
        self.broken = 0

    def receive(self, data: bytes, wall: float = 0.0) -> list[FlvEvent]:
        """Takes any piece of the stream; returns the events that it completes.

        wall: arrival time, seconds since the epoch.
        Raises InvalidData if the stream is not FLV or a tag is too large.
        """
        events: list[FlvEvent] = []
        for tag in self._reader.receive(data):
            try:
                if tag.type_id == VIDEO:
                    event: FlvEvent | None = self.media.read_video(tag.timestamp, tag.payload, wall)
                elif tag.type_id == AUDIO:
                    event = self.media.read_audio(tag.timestamp, tag.payload, wall)
                else:
                    event = parse_script(tag.timestamp, tag.payload)
            except InvalidData:
                self.broken += 1
                continue
            if event is not None:
                events.append(event)
        return events
