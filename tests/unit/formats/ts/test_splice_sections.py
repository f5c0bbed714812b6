"""The time of a splice in its section, and sections for another clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.ts.splice_sections import at_time, is_section, retimed, splice_time
from tests.support.splices import mpeg_crc, pts_of, section, splice_insert, time_signal

WRAP = 1 << 33


@pytest.mark.parametrize(
    "data",
    [time_signal(900_000), splice_insert(900_000), splice_insert(900_000, component=True)],
    ids=["time_signal", "splice_insert", "component"],
)
def test_the_time_of_every_command_is_read(data: bytes) -> None:
    assert is_section(data)
    assert splice_time(data) == 900_000


def test_the_adjustment_is_part_of_the_time() -> None:
    assert splice_time(time_signal(WRAP - 10, adjustment=30)) == 20


@pytest.mark.parametrize(
    "data",
    [
        splice_insert(None),
        section(0, b""),
        section(6, b"\x7f"),
        section(5, b"\0\0\0\7\xff"),
        time_signal(5, encrypted=True),
    ],
    ids=["immediate", "splice_null", "no time", "cancelled", "encrypted"],
)
def test_sections_without_a_readable_time(data: bytes) -> None:
    assert is_section(data)
    assert splice_time(data) is None


@given(st.integers(0, WRAP - 1), st.integers(0, WRAP - 1), st.integers(-WRAP, WRAP))
def test_only_the_adjustment_and_the_checksum_change(pts: int, adjustment: int, shift: int) -> None:
    before = splice_insert(pts, adjustment=adjustment)
    after = retimed(before, shift)
    assert is_section(after) and mpeg_crc(after) == 0
    assert pts_of(after) == (pts + adjustment + shift) % WRAP
    assert after[:4] + after[9:-4] == before[:4] + before[9:-4]


def test_the_flags_of_encryption_stay() -> None:
    after = retimed(time_signal(5, encrypted=True), 90_000)
    assert after[4] & 0xFE == 0x80 and is_section(after)
    assert int.from_bytes(after[4:9], "big") & WRAP - 1 == 90_000


def test_the_splice_is_at_the_time_of_the_output() -> None:
    assert pts_of(at_time(time_signal(123, adjustment=5), 900_000, 63_000)) == 963_000


def test_a_section_without_a_readable_time_is_on_the_streams_clock() -> None:
    after = at_time(time_signal(900_000, encrypted=True), 1, 9_000)
    assert pts_of(after) == 909_000


@given(st.binary(max_size=60) | st.binary(max_size=50).map(lambda data: b"\xfc" + data))
def test_other_bytes_are_no_section(data: bytes) -> None:
    assert not is_section(data) or mpeg_crc(data) == 0


@given(st.integers(0, 255), st.binary(max_size=40), st.booleans())
def test_any_command_can_be_retimed(kind: int, command: bytes, encrypted: bool) -> None:
    data = section(kind, command, encrypted=encrypted)
    assert is_section(data)
    time = splice_time(data)
    assert time is None or 0 <= time < WRAP
    assert is_section(at_time(data, 5, 7))
