"""Target: script data of a publisher that becomes cues, metadata or private data in segments and playlists."""

from __future__ import annotations

from gateway.formats import amf0
from gateway.formats.script_data import read_timed, write_timed
from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import Tracks
from gateway.packaging.date_ranges import CueTags, DateRanges
from gateway.packaging.timed_events import EventReader, event_message
from gateway.packaging.ts.continuous import TsRendering
from gateway.packaging.ts.data_packets import data_stream
from tests.support.builders import AUDIO, VIDEO
from tests.support.hls_rules import parse
from tests.support.packets import packets
from tests.support.splices import cue, splice_insert, time_signal

_NAMES = ("onAdCue", "onTimedMetadata", "onPrivateData", "onScore")
_HEAD = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n"

SEEDS = [
    b"\x00" + write_timed(cue(CueType.OUT, 9000, seconds=30.0, data=splice_insert(5)))[1],
    b"\x00" + write_timed(cue(CueType.IN, 9000, data=time_signal(5, adjustment=7)))[1],
    b"\x01" + amf0.encode({"text": "hello"}),
    b"\x02" + amf0.encode({"pid": 256.0, "type": 6.0, "descriptors": "BQRLTFZB", "data": "AAAA", "at": 1.0}),
    b"\x03" + amf0.encode("name", {"home": 1.0, "list": [True, None]}),
]


def fuzz(data: bytes) -> None:
    """Oracle: the same bytes, whole packets, one-line tags, and no exception."""
    name = _NAMES[(data[0] if data else 0) % len(_NAMES)]
    timed = read_timed(5000, name, data[1:])
    assert write_timed(timed) == (name, data[1:])
    rendering = TsRendering()
    rendering.render_head(Tracks(VIDEO, AUDIO), 0)
    written = rendering.render_timed(timed)
    assert not written or len(packets(written)) >= 3
    event = EventReader().read(timed)
    if isinstance(event, AdCue):
        ranges = DateRanges()
        ranges.add(event, event.at / 1000 + 1e9)
        line = ranges.lines(0)
        parse(f"{_HEAD}{line}#EXT-X-PROGRAM-DATE-TIME:2023-01-01T00:00:00.000Z\n#EXTINF:2.0,\na.ts\n")
        assert line.count("\n") == 1 and CueTags(ranges).before(2e9).count("\n") <= 1
    if event is not None:
        assert (event_message(event) is None) == (data_stream(event) is None)
