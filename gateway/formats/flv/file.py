"""FlvFileDemuxer: a whole FLV stream (HTTP-FLV, WS-FLV, a file) becomes tracks, access units and script data."""

from __future__ import annotations

from gateway.formats import amf0
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.reader import FlvReader
from gateway.formats.flv.tag import AUDIO, VIDEO, FlvEvent, Script
from gateway.media.errors import InvalidData


def parse_script(timestamp: int, body: bytes) -> Script:
    """A script tag's body, or an RTMP data message's: `@setDataFrame` is unwrapped. Raises InvalidData."""
    name, position = amf0.read(body)
    if name == "@setDataFrame":
        name, position = amf0.read(body, position)
    if not isinstance(name, str):
        raise InvalidData("script data without a name")
    rest = body[position:]
    return Script(timestamp, name, tuple(amf0.decode(rest)), rest)


class FlvFileDemuxer:
    """`receive(data, wall)` returns what `data` completes; see `MediaDemuxer` for the events.

    Times are those of the tags, 0 to 2**32 - 1 milliseconds: unwrapping is the caller's. A tag whose body is broken is
    dropped and counted in `broken`; a stream that is not FLV raises InvalidData.
    """

    __slots__ = ("_reader", "broken", "media")

    def __init__(self, *, max_tag: int = 8 << 20) -> None:
        self._reader = FlvReader(max_tag=max_tag)
        self.media = MediaDemuxer()
        self.broken = 0

    def receive(self, data: bytes, wall: float = 0.0) -> list[FlvEvent]:
        """Takes any piece of the stream. Raises InvalidData when it is not FLV or a tag is too large."""
        events: list[FlvEvent] = []
        for tag in self._reader.receive(data):
            try:
                if tag.type_id == VIDEO:
                    event: FlvEvent | None = self.media.video(tag.timestamp, tag.payload, wall)
                elif tag.type_id == AUDIO:
                    event = self.media.audio(tag.timestamp, tag.payload, wall)
                else:
                    event = parse_script(tag.timestamp, tag.payload)
            except InvalidData:
                self.broken += 1
                continue
            if event is not None:
                events.append(event)
        return events
