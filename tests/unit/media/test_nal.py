"""NAL units in their two forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import nal
from gateway.media.errors import InvalidData

# A unit never ends in zero bytes (rbsp_trailing_bits), and emulation prevention keeps start codes out of it.
UNITS = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\x00", b"\x01")), min_size=1, max_size=8)


@given(UNITS, st.sampled_from([1, 2, 3, 4]))
def test_units_are_the_same_in_both_forms(units: list[bytes], size: int) -> None:
    sample = nal.join(units, size)
    assert nal.split(sample, size) == units
    assert nal.split_annexb(nal.join_annexb(units)) == units
    assert nal.from_annexb(nal.join_annexb(units), size) == sample


@given(st.binary(max_size=200), st.sampled_from([1, 2, 3, 4]))
def test_any_bytes_split_or_are_refused(data: bytes, size: int) -> None:
    try:
        units = nal.split(data, size)
    except InvalidData:
        return
    assert sum(map(len, units)) <= len(data)


def test_start_codes_of_three_bytes_and_zero_padding_are_read() -> None:
    data = b"\xff\x00\x00\x01\x67\x01\x00\x00\x00\x00\x01\x68\x02\x00\x00\x00\x00\x00\x01\x65"
    assert nal.split_annexb(data) == [b"\x67\x01", b"\x68\x02", b"\x65"]


def test_without_a_start_code_there_are_no_units() -> None:
    assert nal.split_annexb(b"\x67\x01") == []


def test_empty_units_are_left_out() -> None:
    assert nal.split(b"\0\0\0\0\0\0\0\1\x65\0\0\0\0") == [b"\x65"]


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\2\x65", b"\xff\xff\xff\xff\x65", b"\0\0\0\1\x65\0\0"])
def test_a_length_beyond_the_end_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        nal.split(data)


@pytest.mark.parametrize("unit", [b"\x65", b""])
def test_a_sample_with_too_many_units_is_refused_also_if_they_are_empty(unit: bytes) -> None:
    prefixed, started = bytes((len(unit),)) + unit, b"\0\0\1" + unit
    assert (
        nal.split(prefixed * nal.MAX_UNITS, 1)
        == nal.split_annexb(started * nal.MAX_UNITS)
        == [unit] * (nal.MAX_UNITS if unit else 0)
    )
    with pytest.raises(InvalidData, match="more than"):
        nal.split(prefixed * (nal.MAX_UNITS + 1), 1)
    with pytest.raises(InvalidData, match="more than"):
        nal.split_annexb(started * (nal.MAX_UNITS + 1))


def test_a_unit_too_long_for_its_length_is_refused() -> None:
    with pytest.raises(InvalidData, match="256 bytes"):
        nal.join([b"x" * 256], 1)


def test_emulation_prevention_is_removed() -> None:
    assert nal.unescape(b"\x67\0\0\3\1\0\0\3\0\0\3\3") == b"\x67\0\0\1\0\0\0\0\3"
    assert nal.unescape(b"\0\3\0\0\3") == b"\0\3\0\0"
