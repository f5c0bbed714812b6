"""What ad cues say: sections of SCTE 35, and the forms of AMF."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.script_data import read_values, write_timed
from gateway.formats.scte35 import (
    BreakDuration,
    CancelledInsert,
    Encrypted,
    OtherCommand,
    Segmentation,
    SpliceInfo,
    SpliceInsert,
    SpliceNull,
    TimeSignal,
    read_section,
    write_section,
)
from gateway.formats.splices import (
    LONGEST,
    ScriptSplice,
    Splice,
    decode_section,
    event_id,
    read_script_splice,
    read_splice,
    splice_section,
)
from gateway.media.errors import InvalidData
from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import TimedData

WRAP = 1 << 33


def says(info: SpliceInfo) -> Splice:
    found = read_splice(write_section(info))
    assert found is not None
    return found


def script(name: str, now: int = 60_000, /, **values: Any) -> ScriptSplice | None:
    return read_script_splice(name, values, now)


def test_a_splice_insert_begins_and_ends_a_break() -> None:
    begin = says(SpliceInfo(SpliceInsert(7, True, 900_000, duration=BreakDuration(2_700_000))))
    assert (begin.type, begin.id, begin.pts, begin.seconds) == (CueType.OUT, "7", 900_000, 30.0)
    end = says(SpliceInfo(SpliceInsert(7, False, None, True)))
    assert (end.type, end.id, end.pts, end.seconds) == (CueType.IN, "7", None, None)


def test_the_adjustment_is_added_without_its_carry() -> None:
    assert says(SpliceInfo(SpliceInsert(7, True, WRAP - 10), pts_adjustment=30)).pts == 20
    assert says(SpliceInfo(TimeSignal(5), pts_adjustment=WRAP - 5)).pts == 0


def test_the_first_component_gives_the_time() -> None:
    assert says(SpliceInfo(SpliceInsert(7, True, components=((1, 90), (2, 180))))).pts == 90
    assert says(SpliceInfo(SpliceInsert(7, True, components=()))).pts is None


@pytest.mark.parametrize("begins", [0x22, 0x30, 0x32, 0x34, 0x36, 0x44, 0x46])
def test_segments_of_breaks_begin_and_end_them(begins: int) -> None:
    begin = says(SpliceInfo(TimeSignal(90), (Segmentation(9, begins, 900_000),)))
    assert (begin.type, begin.id, begin.pts, begin.seconds) == (CueType.OUT, "9", 90, 10.0)
    end = says(SpliceInfo(TimeSignal(90), (Segmentation(9, begins + 1, 900_000),)))
    assert (end.type, end.id, end.seconds) == (CueType.IN, "9", None)


def test_a_begin_counts_more_than_an_end_at_the_same_time() -> None:
    both = (Segmentation(9, 0x31), Segmentation(10, 0x30))
    assert (says(SpliceInfo(TimeSignal(90), both)).type, says(SpliceInfo(TimeSignal(90), both)).id) == ("out", "10")


@pytest.mark.parametrize(
    ("info", "id"),
    [
        (SpliceInfo(TimeSignal(90), (Segmentation(9, 0x10),)), "9"),
        (SpliceInfo(TimeSignal(90)), ""),
        (SpliceInfo(CancelledInsert(5)), "5"),
        (SpliceInfo(OtherCommand(0xFF, b"CUEIx")), ""),
        (SpliceInfo(None, encrypted=Encrypted(1, 5, b"hidden")), ""),
    ],
)
def test_everything_else_is_another_cue(info: SpliceInfo, id: str) -> None:
    assert (says(info).type, says(info).id, says(info).seconds) == (CueType.OTHER, id, None)


def test_bytes_after_a_section_are_left_out() -> None:
    section = splice_section(CueType.OUT, "7", 5000, None)
    found = read_splice(section + b"x" * 5000)
    assert found is not None
    assert found.section == section


@pytest.mark.parametrize("command", [SpliceNull(), OtherCommand(7, b"")])
def test_heartbeats_and_filling_are_no_cues(command: SpliceNull | OtherCommand) -> None:
    assert read_splice(write_section(SpliceInfo(command))) is None
    assert says(SpliceInfo(command, (Segmentation(9, 0x30),))).type is CueType.OUT


def test_a_duration_that_no_break_has_is_unknown() -> None:
    for ticks in (0, int(LONGEST) * 90_000 + 90_000):
        assert says(SpliceInfo(TimeSignal(90), (Segmentation(9, 0x22, ticks),))).seconds is None


@given(st.sampled_from([CueType.OUT, CueType.IN]), st.text(max_size=30), st.integers(0, 10**12))
def test_a_section_of_our_own_says_what_it_was_made_of(kind: CueType, id: str, at: int) -> None:
    seconds = 30.0 if kind is CueType.OUT else None
    section = splice_section(kind, id, at, seconds)
    found = read_splice(section)
    assert found == Splice(kind, str(event_id(id)), at * 90 % WRAP, seconds, section)


# ---- AMF ----


def test_cue_points_with_parameters_are_cues() -> None:
    found = script("onCuePoint", name="b1", time=62.5, type="event", parameters={"type": "out", "duration": 30.0})
    assert found is not None
    splice = found.splice
    assert (splice.type, splice.id, splice.seconds, found.at) == (CueType.OUT, "b1", 30.0, 2500)
    command = read_section(splice.section).command
    assert isinstance(command, SpliceInsert)
    assert (command.event_id, command.pts) == (event_id("b1"), 62_500 * 90)
    end = script("onCuePoint", name="b1", time=0.0, type="event", parameters={"type": "in", "duration": 0.0})
    assert end is not None
    assert (end.splice.type, end.splice.seconds, end.at) == (CueType.IN, None, 0)


@pytest.mark.parametrize("word", ["ad", "adBreak", "break-start", "out", "Start", "ad_out"])
def test_words_that_begin_a_break(word: str) -> None:
    found = script("onCuePoint", parameters={"type": word})
    assert found is not None
    assert found.splice.type is CueType.OUT


def test_the_cue_points_of_youtube_are_cues() -> None:
    fields = {"type": "com.youtube.cuepoint", "version": "0.1", "pre_roll_time_sec": 2.56, "splice_event_id": 7.0}
    found = script("onCuePoint", cue_point_start=True, break_duration_sec=30.0, **fields)
    assert found is not None
    assert (found.splice.type, found.splice.id, found.splice.seconds, found.at) == (CueType.OUT, "7", 30.0, 2560)
    end = script("onCuePoint", cue_point_start=False, **fields)
    assert end is not None
    assert end.splice.type is CueType.IN


def test_other_cue_points_are_no_cues() -> None:
    assert script("onCuePoint", name="chapter", time=5.0, type="navigation") is None
    assert script("onCuePoint", name="x", type="event", parameters={"type": "song"}) is None
    assert read_script_splice("onCuePoint", {}, 0) is None


def section_text(info: SpliceInfo) -> str:
    return base64.b64encode(write_section(info)).decode()


def test_a_section_in_amf_has_its_own_time_if_it_is_near() -> None:
    for ahead, shown in ((4_000, 4_000), (-5_000, -5_000), (3_000_000, 0), (-60_000, 0)):
        pts = (60_000 + ahead) * 90 % WRAP
        found = script("onAdCue", scte35=section_text(SpliceInfo(SpliceInsert(7, True, pts))))
        assert found is not None
        assert (found.splice.id, found.at) == ("7", shown)
    now = script("onAdCue", scte35=section_text(SpliceInfo(SpliceInsert(7, True, None, True))))
    assert now is not None
    assert now.at == 0


def test_a_section_of_adobe_primetime_has_the_time_beside_it() -> None:
    cue = section_text(SpliceInfo(SpliceInsert(7, True, 900_000, duration=BreakDuration(2_700_000))))
    fields = {"cue": cue, "type": "scte35", "id": "1", "duration": 30.0}
    found = script("onAdCue", time=62.5, **fields)
    assert found is not None
    assert (found.splice.type, found.splice.id, found.splice.seconds, found.at) == (CueType.OUT, "7", 30.0, 2500)
    assert found.splice.section == base64.b64decode(cue)
    assert script("onAdCue", time=60.0, elapsed=0.0, **fields) is not None
    assert script("onAdCue", time=50.0, elapsed=10.0, **fields) is None


def test_the_simple_mode_of_adobe_primetime_begins_a_break() -> None:
    found = script("onAdCue", cue="SpliceOut", id="b1", duration=30.0, time=62.5)
    assert found is not None
    assert (found.splice.type, found.splice.id, found.splice.seconds, found.at) == (CueType.OUT, "b1", 30.0, 2500)
    command = read_section(found.splice.section).command
    assert isinstance(command, SpliceInsert)
    assert (command.event_id, command.pts) == (event_id("b1"), 62_500 * 90)


def test_the_cue_points_of_elemental_are_cues() -> None:
    fields = {"messageType": "SpliceInsert", "splice_command_type": 5.0, "splice_event_id": 7.0}
    fields |= {"splice_immediate": False, "pre_roll_time": 2560.0, "break_duration": 30_000.0}
    begin = script("onCuePoint", name="scte35", type="event", parameters=fields | {"out_of_network_indicator": True})
    assert begin is not None
    assert (begin.splice.type, begin.splice.id, begin.splice.seconds, begin.at) == (CueType.OUT, "7", 30.0, 2560)
    end = script("onCuePoint", name="scte35", type="event", parameters=fields | {"out_of_network_indicator": False})
    assert end is not None
    assert (end.splice.type, end.splice.id, end.splice.seconds) == (CueType.IN, "7", None)


def test_cues_of_another_node_keep_their_values() -> None:
    section = splice_section(CueType.OUT, "show-1", 999_999, 12.5)
    name, amf = write_timed(TimedData(60_000, AdCue(CueType.OUT, "show-1", 61_000, 12.5, section)))
    found = read_script_splice(name, read_values(amf), 60_000)
    assert found is not None
    assert (found.splice.type, found.splice.id, found.splice.seconds, found.at) == ("out", "show-1", 12.5, 1000)
    assert found.splice.section == section


def test_the_id_of_a_cue_is_printable_and_bounded() -> None:
    section = splice_section(CueType.OUT, "a", 999_999, 12.5)
    name, amf = write_timed(TimedData(60_000, AdCue(CueType.OUT, "a\0\n" + "b" * 300, 61_000, 12.5, section)))
    found = read_script_splice(name, read_values(amf), 60_000)
    assert found is not None and found.splice.id == "a" + "b" * 127


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("onAdCue", {}),
        ("onAdCue", {"scte35": 5.0}),
        ("onAdCue", {"cue": "SpliceOut", "duration": 1e6}),
        ("onCuePoint", {"parameters": {"out_of_network_indicator": True, "break_duration": 1e9}}),
        ("onAdCue", {"scte35": "no base64!"}),
        ("onAdCue", {"scte35": "ä"}),
        ("onAdCue", {"scte35": "/DARAAAAAAAAAP/wAAAAAHpPv/8="[:-4]}),
        ("onCuePoint", {"parameters": {"type": "out", "duration": "30"}}),
        ("onCuePoint", {"parameters": {"type": "out", "duration": float("nan")}}),
        ("onCuePoint", {"parameters": {"type": "out", "duration": float("inf")}}),
        ("onCuePoint", {"parameters": {"type": "out", "duration": -1.0}}),
        ("onCuePoint", {"parameters": {"type": "out", "duration": 1e300}}),
        ("onCuePoint", {"type": "com.youtube.cuepoint"}),
        ("onCuePoint", {"type": "com.youtube.cuepoint", "cue_point_start": True, "pre_roll_time_sec": -1.0}),
    ],
)
def test_a_malformed_cue_is_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        script(name, **values)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1e308, "5", 1e8])
def test_a_time_that_cannot_be_is_now(time: Any) -> None:
    found = script("onCuePoint", time=time, parameters={"type": "out"})
    assert found is not None
    assert found.at == 0


def test_a_section_in_base64_is_decoded() -> None:
    assert decode_section("/DAR") == b"\xfc\x30\x11"
    for text in ("/DA", "é", "/DAR\n", "A" * 8196):
        with pytest.raises(InvalidData):
            decode_section(text)
