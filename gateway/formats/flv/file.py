"""FlvFileDemuxer: turns a whole FLV stream (HTTP-FLV, WS-FLV, a file) into tracks, access units and script data."""

from __future__ import annotations

from gateway.formats import amf0
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.reader import FlvReader
from gateway.formats.flv.tag import AUDIO, VIDEO, FlvEvent, Script
from gateway.media.errors import InvalidData


def parse_script(timestamp: int, body: bytes) -> Script:
    """Reads the body of a script tag or an RTMP data message; unwraps `@setDataFrame`. Raises InvalidData."""
    name, position = amf0.read(body)
    if name == "@setDataFrame":
        name, position = amf0.read(body, position)
    if not isinstance(name, str):
        raise InvalidData("script data without a name")
    rest = body[position:]
    return Script(timestamp, name, tuple(amf0.decode(rest)), rest)


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
