"""Sections of SCTE 35: the samples of the specification, all forms written and read, and the judgement of threefive."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import threefive
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.scte35 import (
    MAX_SECTION,
    BreakDuration,
    CancelledInsert,
    CancelledSegmentation,
    DeliveryRestrictions,
    Encrypted,
    OtherCommand,
    OtherDescriptor,
    Segmentation,
    SpliceInfo,
    SpliceInsert,
    SpliceNull,
    TimeSignal,
    read_section,
    write_section,
)
from gateway.formats.ts.psi import crc32
from gateway.media.errors import InvalidData

# Samples of SCTE 35 §14: a placement opportunity begins and ends, and a splice_insert.
TIME_SIGNAL_START = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg=="
TIME_SIGNAL_END = "/DAvAAAAAAAA///wBQb+dGKQoAAZAhdDVUVJSAAAjn+fCAgAAAAALKChijUCAKnMZ1g="
INSERT = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo="

_u8, _u32, _pts = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**33 - 1)
_time = st.none() | _pts
_duration = st.none() | st.builds(BreakDuration, _pts, st.booleans())


def _inserts(is_immediate: bool) -> st.SearchStrategy[SpliceInsert]:
    time = st.none() if is_immediate else _time
    parts = st.lists(st.tuples(_u8, time), max_size=255).map(tuple)
    program = st.tuples(time, st.none())
    return st.builds(
        lambda id, out, where, *more: SpliceInsert(id, out, where[0], is_immediate, where[1], *more),
        *(_u32, st.booleans(), program | st.tuples(st.none(), parts), _duration, st.integers(0, 65535), _u8, _u8),
        st.booleans(),
    )


_restrictions = st.none() | st.builds(
    DeliveryRestrictions, st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3)
)
_segmentations = st.builds(
    Segmentation,
    *(_u32, st.sampled_from([0, 0x22, 0x23, 0x31, 0x35, 0x50]), st.none() | st.integers(0, 2**40 - 1), _u8),
    *(st.binary(max_size=60), _u8, _u8, st.none()),
    st.none() | st.lists(st.tuples(_u8, _pts), max_size=20).map(tuple),
    _restrictions,
    st.booleans(),
) | st.builds(Segmentation, _u32, st.just(0x34), sub_segment=st.none() | st.tuples(_u8, _u8))
_descriptors = st.lists(
    _segmentations
    | st.builds(CancelledSegmentation, _u32, st.booleans())
    | st.builds(OtherDescriptor, st.sampled_from([0, 1, 3, 255]), st.binary(max_size=255)),
    max_size=6,
).map(tuple)
_commands = (
    st.just(SpliceNull())
    | st.builds(CancelledInsert, _u32)
    | _inserts(False)
    | _inserts(True)
    | st.builds(TimeSignal, _time)
    | st.builds(OtherCommand, st.sampled_from([4, 8, 255]), st.binary(max_size=300))
)
_rest = (_pts, st.integers(0, 4095), _u8, st.integers(0, 3))
_encrypted = st.builds(Encrypted, st.integers(0, 63), st.integers(0, 4095), st.binary(max_size=300))
INFOS = st.builds(SpliceInfo, _commands, _descriptors, *_rest) | st.builds(
    SpliceInfo, st.none(), st.just(()), *_rest, _encrypted
)


def signed(body: bytes) -> bytes:
    """Returns a section with a right CRC, whatever it says."""
    return body + crc32(body).to_bytes(4, "big")


def in_section(end: bytes) -> bytes:
    """Returns a section with these bytes from its tier on."""
    return signed(b"\xfc\x30" + bytes((7 + len(end) + 4,)) + bytes(7) + end)


def test_the_samples_of_the_specification_are_read() -> None:
    start = read_section(base64.b64decode(TIME_SIGNAL_START))
    assert start.command == TimeSignal(0x072BD0050)
    limits = DeliveryRestrictions(False, True, True, 3)
    upid = bytes.fromhex("000000002ca0a18a")
    assert start.descriptors == (Segmentation(0x4800008E, 0x34, 27_630_000, 8, upid, 2, 0, restrictions=limits),)
    insert = read_section(base64.b64decode(INSERT))
    assert insert.command == SpliceInsert(0x4800008F, True, 0x07369C02E, duration=BreakDuration(0x52CCF5))
    assert insert.descriptors == (OtherDescriptor(0, b"CUEI\0\0\x015"),)
    end = read_section(base64.b64decode(TIME_SIGNAL_END)).descriptors[0]
    assert isinstance(end, Segmentation)
    assert (end.type_id, end.duration) == (0x35, None)


@pytest.mark.parametrize("sample", [TIME_SIGNAL_START, TIME_SIGNAL_END, INSERT])
def test_the_samples_of_the_specification_are_written_as_they_were(sample: str) -> None:
    data = base64.b64decode(sample)
    assert write_section(read_section(data)) == data
    assert read_section(data + b"\xff" * 20) == read_section(data)


@given(INFOS)
def test_written_sections_are_read(info: SpliceInfo) -> None:
    try:
        data = write_section(info)
    except ValueError:
        size = sum(len(str(item)) for item in info.descriptors) + len(str(info.command))
        assert size > MAX_SECTION // 8  # only large sections are refused
        return
    assert len(data) <= MAX_SECTION
    assert read_section(data) == info


@given(INFOS, st.data())
def test_a_changed_byte_is_noticed(info: SpliceInfo, draw: Any) -> None:
    try:
        data = bytearray(write_section(info))
    except ValueError:
        return
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(InvalidData):
        read_section(bytes(data))


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("no splice_info_section", b""),
        ("no splice_info_section", b"\x02\x00\x00"),
        ("section_syntax_indicator", signed(b"\xfc\xb0\x04")),
        ("a section of", b"\xfc\x3f\xff" + bytes(20)),
        ("a section of", b"\xfc\x30\x01\x00"),
        ("wrong CRC", b"\xfc\x30\x11" + bytes(17)),
        ("protocol version 1", signed(b"\xfc\x30\x11\x01" + bytes(12))),
        ("ends at bit", signed(b"\xfc\x30\x05\x00")),
        ("a command of 80 bytes", in_section(b"\0\0\x50\x00\0\0")),
        ("descriptors of 7 bytes", in_section(b"\0\0\0\x00\0\x07")),
        ("a descriptor is cut short", in_section(b"\0\0\0\x00\0\x02\x01\x05")),
        ("a descriptor is cut short", in_section(b"\0\0\0\x00\0\x01\x01")),
        ("without a length", in_section(b"\xff\xff\xff\x63\0\0")),
    ],
)
def test_a_damaged_section_is_refused(reason: str, data: bytes) -> None:
    with pytest.raises(InvalidData, match=reason):
        read_section(data)


def test_a_command_without_a_length_is_measured() -> None:
    # Older writers leave splice_command_length at 0xFFF.
    for command in (SpliceNull(), SpliceInsert(7, True, 900, duration=BreakDuration(5)), TimeSignal(5)):
        descriptor = OtherDescriptor(1, b"CUEIx")
        data = bytearray(write_section(SpliceInfo(command, (descriptor,))))
        data[11] |= 0x0F
        data[12] = 0xFF
        assert read_section(signed(bytes(data[:-4]))) == SpliceInfo(command, (descriptor,))


@pytest.mark.parametrize(
    "info",
    [
        SpliceInfo(SpliceInsert(1 << 32, True)),
        SpliceInfo(TimeSignal(1 << 33)),
        SpliceInfo(TimeSignal(-1)),
        SpliceInfo(None),
        SpliceInfo(OtherCommand(4, bytes(4096))),
        SpliceInfo(SpliceNull(), (OtherDescriptor(1, bytes(256)),)),
    ],
)
def test_values_that_do_not_fit_are_an_error_of_the_caller(info: SpliceInfo) -> None:
    with pytest.raises(ValueError, match="SCTE 35"):
        write_section(info)


# ---- the judge ----

JUDGED = [
    SpliceInfo(SpliceInsert(7, True, 900_000, duration=BreakDuration(2_700_000)), pts_adjustment=90),
    SpliceInfo(SpliceInsert(7, False, 3_600_000), tier=5),
    SpliceInfo(SpliceInsert(8, True, None, True, None, BreakDuration(90_000, False), 3, 1, 2)),
    SpliceInfo(TimeSignal((1 << 33) - 1), (Segmentation(9, 0x22, 2_700_000, 9, b"SIGNAL:abc", 1, 1),)),
    SpliceInfo(TimeSignal(None), (Segmentation(9, 0x23), Segmentation(10, 0x30, sub_segment=(1, 2)))),
    SpliceInfo(SpliceNull()),
]


@pytest.mark.parametrize("info", JUDGED)
def test_threefive_reads_the_same_values(info: SpliceInfo) -> None:
    cue = threefive.Cue(write_section(info))
    assert cue.decode()
    found = cue.get()
    assert found["info_section"]["pts_adjustment"] == pytest.approx(info.pts_adjustment / 90_000, abs=1e-5)
    assert int(found["info_section"]["tier"], 16) == info.tier
    command = info.command
    if isinstance(command, SpliceInsert):
        got = found["command"]
        assert int(str(got["splice_event_id"]), 0) == command.event_id
        assert got["out_of_network_indicator"] == command.out
        assert got["splice_immediate_flag"] == command.is_immediate
        if command.pts is not None:
            assert got["pts_time"] == pytest.approx(command.pts / 90_000, abs=1e-5)
        if command.duration is not None:
            assert got["break_duration"] == pytest.approx(command.duration.ticks / 90_000, abs=1e-5)
            assert got["break_auto_return"] == command.duration.auto_return
        assert (got["avail_num"], got["avails_expected"]) == (command.avail, command.avails_expected)
    segments = [item for item in info.descriptors if isinstance(item, Segmentation)]
    assert len(found["descriptors"]) == len(segments)
    for got, segment in zip(found["descriptors"], segments, strict=True):
        assert int(got["segmentation_event_id"], 0) == segment.event_id
        assert got["segmentation_type_id"] == segment.type_id
        if segment.duration is not None:
            assert got["segmentation_duration"] == pytest.approx(segment.duration / 90_000, abs=1e-5)


@pytest.mark.parametrize("info", JUDGED)
def test_sections_of_threefive_are_read(info: SpliceInfo) -> None:
    cue = threefive.Cue(write_section(info))
    cue.decode()
    written = base64.b64decode(cue.encode())
    assert read_section(written) == info
