"""Writes cues, timed metadata and private data into a transport stream."""

from gateway.formats.ts import data_streams
from gateway.formats.ts.data_streams import DataStream, SectionPackets
from gateway.formats.ts.muxer import Packets, TsMuxer
from gateway.formats.ts.splice_sections import at_time, is_section
from gateway.media.timed_data import AdCue, PrivateData
from gateway.packaging.timed_events import TimedEvent


def data_stream(event: TimedEvent) -> DataStream | None:
    """Returns the stream of an event; None for a cue without a valid section."""
    if isinstance(event, AdCue):
        return data_streams.SCTE35 if is_section(event.section) else None
    return data_streams.ID3


def write_event(muxer: TsMuxer, event: TimedEvent) -> Packets | SectionPackets:
    """Returns the packets of an event whose stream the muxer has announced. Splices get the times of the output."""
    time = max(event.at, 0)
    if isinstance(event, AdCue):
        return muxer.write_section(data_streams.SCTE35, at_time(event.section, time, muxer.delay))
    return muxer.write_data(data_streams.ID3, event.tag, time)


class PrivateStreams:
    """Gives each stream of private data of a push a PID of its own; at most MAX_PRIVATE of them."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, int, bytes], DataStream] = {}  # by PID in the push, type and descriptors

    def find(self, data: PrivateData) -> DataStream | None:
        """Returns the stream for some data; None if it is too large, or there are too many streams."""
        key = data.pid, data.stream_type, data.descriptors
        fits = len(data.descriptors) <= data_streams.MAX_DESCRIPTORS and len(data.payload) <= data_streams.MAX_PAYLOAD
        if fits and key not in self._streams and len(self._streams) < data_streams.MAX_PRIVATE:
            pid = data_streams.FIRST_PRIVATE_PID + len(self._streams)
            self._streams[key] = DataStream(pid, data.stream_type, data.descriptors)
        return self._streams.get(key) if fits else None


def write_private(muxer: TsMuxer, stream: DataStream, data: PrivateData) -> Packets:
    """Returns the packets of private data in ticks of 90 kHz, whose stream the muxer has announced."""
    return muxer.write_data(stream, data.payload, None if data.at is None else max(data.at, 0))
