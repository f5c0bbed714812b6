"""Timed data in AMF: what is written is read as it was, and everything of others passes bit for bit."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.formats import amf0
from gateway.formats.script_data import AD_CUE, METADATA, PRIVATE_DATA, TEXT_DATA, read_timed, write_timed
from gateway.media.timed_data import AdCue, CaptionText, CueType, Metadata, PrivateData, Script
from gateway.media.track import TimedData

TIMES = st.integers(0, 9000)
VALUES = st.one_of(
    st.builds(
        PrivateData, st.integers(0, 0x1FFF), st.integers(0, 255), st.binary(max_size=20), st.none() | TIMES, st.binary()
    ),
    st.builds(
        AdCue,
        st.sampled_from(CueType),
        st.text("abc-1", max_size=9),
        TIMES,
        st.none() | TIMES.map(float).filter(bool),
        st.binary(),
    ),
    st.builds(CaptionText, st.text("ab", min_size=1), TIMES, st.none(), st.sampled_from(["", "de-AT"]), st.booleans()),
    st.builds(CaptionText, st.just("hi"), st.integers(0, 500), st.integers(501, 9000)),
    st.builds(Metadata, st.text()),
)


@given(st.builds(TimedData, TIMES, VALUES))
def test_it_returns_as_it_was(timed: TimedData) -> None:
    assert read_timed(timed.dts, *write_timed(timed)) == timed


@given(st.sampled_from([AD_CUE, METADATA, PRIVATE_DATA, TEXT_DATA, "onCuePoint"]), st.binary(max_size=80))
@example(TEXT_DATA, amf0.encode({"type": "Text", "text": "of an encoder", "trackid": 1.0}))
@example(TEXT_DATA, amf0.encode({"text": " blanks "}))
@example(METADATA, amf0.encode({"text": "x", "more": 1.0}))
@example(METADATA, amf0.encode({"text": "x"}, 5.0))
def test_all_script_data_passes_bit_for_bit(name: str, amf: bytes) -> None:
    assert write_timed(read_timed(5000, name, amf)) == (name, amf)


def test_times_move_with_the_message() -> None:
    cue, text = AdCue(CueType.OUT, "b1", 61_000, 12.5, b"x"), CaptionText("hi", 60_500, 62_000)
    for value in (cue, text, PrivateData(1, 6, b"", 60_001, b"x"), Metadata("x"), Script("onCuePoint", b"x")):
        name, amf = write_timed(TimedData(60_000, value))
        assert TimedData(60_000, value).moved(-1000) == read_timed(59_000, name, amf)


GOOD = {"pid": 256.0, "type": 6.0, "descriptors": "", "data": "AA=="}


@pytest.mark.parametrize(
    "change",
    [{"pid": 9000.0}, {"type": 256.0}, {"type": "6"}, {"pid": float("nan")}, {"data": "ü"}, {"data": "A"},
     {"descriptors": 3.0}, {"data": "A" * 100_000}, {"at": 1e9}],
)  # fmt: skip
def test_other_values_are_no_private_data(change: dict[str, float | str]) -> None:
    assert isinstance(read_timed(0, PRIVATE_DATA, amf0.encode(dict(GOOD))).value, PrivateData)
    assert isinstance(read_timed(0, PRIVATE_DATA, amf0.encode(GOOD | change)).value, Script)
