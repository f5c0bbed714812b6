"""Which script data of a stream are events, and how many."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import amf0, id3
from gateway.media.timed_data import AdCue, CueType, Metadata, Script
from gateway.media.track import AmfValue, TimedData
from gateway.packaging.timed_events import EventReader, MetadataTag, begins_segment, event_message
from tests.support.splices import cue, splice_insert


def script(name: str, *values: AmfValue, dts: int = 0) -> TimedData:
    return TimedData(dts, Script(name, amf0.encode(*values)))


def test_metadata_is_a_tag_at_its_time() -> None:
    assert EventReader().read(TimedData(70, Metadata("hi"))) == MetadataTag(6300, id3.text_tag("hi"))
    assert EventReader().read(TimedData(6301, Metadata("hi"), 90_000)) == MetadataTag(6301, id3.text_tag("hi"))


def test_script_data_of_publishers_is_metadata_as_json() -> None:
    event = EventReader().read(script("onScore", {"home": 2.0, "name": "ü"}, True))
    text = json.dumps({"name": "onScore", "values": [{"home": 2.0, "name": "ü"}, True]}, ensure_ascii=False)
    assert event == MetadataTag(0, id3.text_tag(text))


@pytest.mark.parametrize(
    "name", ["onTextData", "onCaption", "onCaptionInfo", "onMetaData", "onCuePoint", "onPrivateData", "onStatus",
             "|RtmpSampleAccess", "onMillraceClock", "onExpectAdditionalMedia", "additionalMedia"],
)  # fmt: skip
def test_other_script_data_is_none(name: str) -> None:
    assert EventReader().read(script(name, {"text": "x"})) is None


@pytest.mark.parametrize(
    "timed",
    [
        script("onBig", "x" * 1100),
        script("onHuge", "x" * 9000),
        script("onNumber", float("nan")),
        TimedData(0, Script("onBroken", b"\x02\xff")),
        TimedData(0, Script("onTimedMetadata", b"\x02")),
        TimedData(0, Metadata("x" * 1025)),
        TimedData(0, Metadata("")),
        TimedData(0, Script("onAdCue", b"\x02")),
        script("onAdCue", {"type": "out", "scte35": "ü", "id": "1", "at": 0.0}),
    ],
)
def test_large_and_damaged_data_are_left_out(timed: TimedData) -> None:
    assert EventReader().read(timed) is None


def test_five_metadata_a_second_pass_and_each_way_in_has_its_own_five() -> None:
    reader = EventReader()
    own = [dts for dts in range(0, 3000, 50) if reader.read(TimedData(dts, Metadata("x"))) is not None]
    assert own == [n * 1000 + m for n in range(3) for m in (0, 50, 100, 150, 200)]
    assert reader.read(script("onScore", 1.0, dts=2990)) is not None


def test_a_stream_whose_clock_goes_back_continues() -> None:
    reader = EventReader()
    for n in range(5):
        assert reader.read(TimedData(9000 + n, Metadata("x"))) is not None
    assert reader.read(TimedData(0, Metadata("x"))) is not None


def test_cues_are_bounded_too() -> None:
    reader = EventReader()
    assert sum(reader.read(cue(CueType.OUT, n)) is not None for n in range(100)) == 10


def test_only_breaks_begin_segments() -> None:
    made = [AdCue(kind, "1", 0, None, b"") for kind in CueType]
    assert [begins_segment(c) for c in made] == [True, True, False]
    assert not begins_segment(MetadataTag(0, b""))


def test_a_cue_without_a_valid_section_is_no_message() -> None:
    assert event_message(AdCue(CueType.OUT, "1", 0, None, b"\xfc\x30")) is None
    message = event_message(AdCue(CueType.OUT, "1", 0, 2.0, splice_insert(5)))
    assert message is not None and message.scheme == "urn:scte:scte35:2013:bin"


@given(st.sampled_from(["onAdCue", "onTimedMetadata", "onX"]), st.binary(max_size=60))
def test_any_bytes_raise_nothing(name: str, data: bytes) -> None:
    event = EventReader().read(TimedData(0, Script(name, data)))
    assert event is None or isinstance(event, AdCue | MetadataTag)
