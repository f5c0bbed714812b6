"""What a push sends and nobody can use is named, counted within bounds, and known to the node with the stream."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.inputs import InputKind
from gateway.live.flv_intake import FlvIntake
from gateway.live.program_intake import ProgramIntake
from gateway.live.track_changes import KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.live.unusable_media import UnusableMedia
from gateway.media.errors import InvalidData
from gateway.media.track import Kind
from tests.support import builders
from tests.unit.formats.ts.test_program_reader import FILLING, pat, pmt, section_packet
from tests.unit.live.test_unusual_bodies import Converter


def unusable() -> UnusableMedia:
    return UnusableMedia("c1", Counter())


def test_the_sentence_gives_advice_for_each_kind() -> None:
    found = unusable()
    assert (found.left_out, found.left_out_text, found.text()) == ("", "", "")
    found.leave_out(Kind.AUDIO, "DTS")
    found.leave_out(Kind.VIDEO, "MPEG-2 video")
    assert found.left_out == "DTS, MPEG-2 video"
    assert found.text() == "The encoder sends MPEG-2 video: choose H.264 or HEVC. The encoder sends DTS: choose AAC."


def test_scrambled_streams_have_another_advice() -> None:
    found = unusable()
    found.leave_out(Kind.VIDEO, "scrambled video")
    assert found.text() == "The encoder sends scrambled video: send it without scrambling."


def test_names_are_bounded() -> None:
    found = unusable()
    for n in range(1000):
        found.leave_out(Kind.VIDEO, f"codec {n} " + "x" * 5000)
    assert len(found.text()) < 500
    assert len(found.left_out) < 2000


def test_only_broken_units_in_a_row_are_a_fault_until_one_is_read() -> None:
    found = unusable()
    for _ in range(4):
        assert not found.add_broken(VIDEO_INDEX, "they are damaged")
    assert found.unreadable == ""
    found.add_broken(VIDEO_INDEX, "they are damaged")
    assert found.unreadable == "they are damaged"
    assert found.text() == "The pictures cannot be used: they are damaged."
    found.read[AUDIO_INDEX] += 1
    assert found.unreadable == "they are damaged"
    found.read[VIDEO_INDEX] += 1
    assert found.unreadable == ""
    found.add_broken(VIDEO_INDEX, "they are damaged")
    assert found.unreadable == ""
    assert found.broken == 6


@pytest.mark.parametrize(("sounds", "alone", "ends"), [(0, False, True), (1, False, False), (1, True, True)])
def test_a_push_ends_after_a_hundred_broken_units_and_nothing_else(sounds: int, alone: bool, ends: bool) -> None:
    found = unusable()
    told = []
    for n in range(UnusableMedia.IN_ROW):
        told.append(found.add_broken(VIDEO_INDEX, "broken", alone=alone))
        found.read[AUDIO_INDEX] += sounds if n == 50 else 0
    assert told == [False] * (UnusableMedia.IN_ROW - 1) + [ends]


def test_another_program_replaces_left_out_tracks() -> None:
    found = unusable()
    found.leave_out_only({"DTS": Kind.AUDIO, "AVS": Kind.VIDEO})
    found.leave_out_only({"AVS": Kind.VIDEO, "AC-4": Kind.AUDIO})
    assert found.left_out == "AVS, AC-4"
    found.leave_out_only({})
    assert found.text() == ""


def test_the_members_of_a_message_are_those_that_are_read() -> None:
    sent, got = unusable(), unusable()
    assert sent.fields() == {}
    sent.leave_out(Kind.AUDIO, "DTS")
    sent.record = "their parameter sets cannot be read"
    sent.explain = lambda: "no key frame came"
    got.take_fields(sent.fields())
    assert (got.left_out_text, got.unreadable, got.explain()) == (
        sent.left_out_text,
        sent.unreadable,
        "no key frame came",
    )
    got.take_fields({})
    assert (got.text(), got.fields()) == ("", {})


@pytest.mark.parametrize(
    "fields", [{"leftOut": 3}, {"leftOut": {"x": "smell"}}, {"reasons": 1}, {"reasons": ["a"]}, {"leftOut": ["x"]}]
)
def test_a_message_with_other_members_is_invalid(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        unusable().take_fields(fields)


def test_a_usable_track_replaces_left_out_ones() -> None:
    found = unusable()
    found.leave_out(Kind.VIDEO, "VP6")
    found.leave_out(Kind.AUDIO, "DTS")
    found.begin(Kind.VIDEO)
    assert found.left_out == "DTS"


async def test_a_stream_shows_the_unusable_tracks_of_the_input_on_air() -> None:
    hub = builders.hub()
    source, backup = builders.publish(hub, "c1"), builders.publish(hub, "c2")
    backup.unusable.leave_out(Kind.AUDIO, "DTS")
    source.show(backup, InputKind.BACKUP, lambda: None)
    assert source.unusable.left_out == "DTS"
    source.show(None, InputKind.SLATE, lambda: None)
    assert source.unusable.left_out == ""
    hub.drain()
    await hub.drained()


# ---- hostile senders ----


async def test_sound_that_changes_its_codec_all_the_time_ends_the_push() -> None:
    """Each change starts a worker."""
    hub = builders.hub()
    intake = FlvIntake(builders.publish(hub), Converter)
    with pytest.raises(KeepsChanging):
        for n in range(200):
            intake.take_media(AUDIO_INDEX, n, (b"\x72", b"\xb2")[n % 2] + bytes(20), 1.7e9, time.monotonic())
    hub.drain()
    await hub.drained()


STREAMS = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 0x1FFF), st.binary(max_size=40)), max_size=20)
DESCRIPTORS = st.sampled_from(
    [b"\x05\x04AC-4", b"\x7f\x02\x15\x00", b"\x7b\x00", b"\x05\x04BSSD", b"\x05\x04DTS1", b"\x7f\x02\x80\xff", b"\x05"]
)
PRIVATE = st.lists(st.tuples(st.just(6), st.integers(0x30, 0x1FFE), DESCRIPTORS), max_size=12)


@given(st.lists(st.one_of(STREAMS, PRIVATE), min_size=1, max_size=12))
async def test_hostile_program_maps_leave_bounded_names(maps: list[list[tuple[int, int, bytes]]]) -> None:
    hub = builders.hub()
    intake = ProgramIntake(builders.publish(hub), Converter)
    intake.receive(section_packet(0, pat({1: 0x20})), time.monotonic())
    for version, streams in enumerate(maps):
        section = pmt(1, streams[:3], version)
        if len(section) < 184:
            intake.receive(section_packet(0x20, section, version) + FILLING * 22, time.monotonic())
        found = intake.unusable
        assert len(found.left_out) < 1500 and len(found.text()) < 800
        assert set(found.fields()) <= {"leftOut", "reasons"}
    intake.finish(time.monotonic())
    hub.drain()
    await hub.drained()


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=64)), max_size=60))
async def test_hostile_bodies_leave_bounded_names(bodies: list[tuple[bool, bytes]]) -> None:
    hub = builders.hub()
    intake = FlvIntake(builders.publish(hub), Converter)
    with suppress(InvalidData):
        for n, (is_video, body) in enumerate(bodies):
            intake.take_media(VIDEO_INDEX if is_video else AUDIO_INDEX, 40 * n, body, 1.7e9, time.monotonic())
    assert len(intake.unusable.left_out) < 1500 and len(intake.unusable.text()) < 1000
    intake.finish(time.monotonic())
    hub.drain()
    await hub.drained()
