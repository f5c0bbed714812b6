"""Private data of a transport stream in the stream, and its bounds."""

from __future__ import annotations

import pytest

from gateway.formats.private_data import MAX_BYTES, read_private_data
from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.program_tables import StreamEntry, StreamUse
from gateway.live.private_intake import PrivateIntake

KLVA = b"\x05\x04KLVA"
ASYNC = StreamEntry(0x200, 0x06, StreamUse.KLV, "klv", descriptors=KLVA)
SYNC = StreamEntry(0x201, 0x15, StreamUse.KLV, "klv", descriptors=b"\x26\x09\x01\x00\xffKLVA\x00\x0f")
OTHER = StreamEntry(0x202, 0x06, StreamUse.PRIVATE, "private", descriptors=b"\x0d\x01\x02")


def take(intake: PrivateIntake, entry: StreamEntry, payload: bytes, dts: int = 0, at: int | None = 5) -> bytes | None:
    timed = intake.take(DataUnit(entry.pid, entry.use, None, payload), entry, dts, at)
    if timed is None:
        return None
    data = read_private_data(timed)
    assert data is not None
    assert (data.pid, data.stream_type, data.descriptors, data.at) == (
        entry.pid, entry.stream_type, entry.descriptors, at,
    )  # fmt: skip
    return data.payload


def test_data_is_passed_on() -> None:
    assert take(PrivateIntake(), ASYNC, b"klv") == b"klv"
    assert take(PrivateIntake(), OTHER, b"?", at=None) == b"?"


def test_cells_of_synchronous_klv_are_made_again() -> None:
    intake = PrivateIntake()
    assert take(intake, SYNC, b"klv") == b"\0\x01\xdf\0\x03klv"
    assert take(intake, SYNC, b"klv") == b"\0\x02\xdf\0\x03klv"


@pytest.mark.parametrize("use", [StreamUse.SCTE35, StreamUse.TELETEXT])
def test_data_with_other_ways_is_left_to_them(use: StreamUse) -> None:
    assert take(PrivateIntake(), StreamEntry(1, 6, use, ""), b"x") is None
    assert take(PrivateIntake(), OTHER, b"ID3\x04") is None


def test_units_and_bytes_of_a_second_are_bounded() -> None:
    intake = PrivateIntake()
    assert sum(take(intake, ASYNC, b"x", n) is not None for n in range(100)) == 60
    assert intake.dropped == 40
    assert take(intake, ASYNC, b"x", 1000) is not None
    assert sum(take(intake, ASYNC, b"x" * 60_000, 2000) is not None for _ in range(9)) == 4
    assert take(intake, ASYNC, b"x" * (MAX_BYTES + 1), 3000) is None
