"""AMF0, and AMF3 behind its marker, are decoded within bounds and encoded again."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import amf0
from gateway.media.errors import InvalidData


def number(value: float) -> bytes:
    return b"\x00" + struct.pack(">d", value)


def key(name: str) -> bytes:
    return struct.pack(">H", len(name)) + name.encode()


END = b"\0\0\x09"


def test_scalars_decode() -> None:
    data = number(1.5) + b"\x01\x01" + b"\x02\x00\x02hi" + b"\x05" + b"\x06" + b"\x0c\0\0\0\x03abc"
    assert amf0.decode(data) == [1.5, True, "hi", None, None, "abc"]


def test_object_and_typed_object_become_dicts() -> None:
    body = key("a") + number(1) + END
    assert amf0.decode(b"\x03" + body + b"\x10" + key("Class") + body) == [{"a": 1.0}, {"a": 1.0}]


def test_ecma_array_ignores_its_count() -> None:
    assert amf0.decode(b"\x08\xff\xff\xff\xff" + key("a") + number(1) + END) == [{"a": 1.0}]


@pytest.mark.parametrize("end", [b"", b"\0\0"])
def test_ecma_array_may_lack_its_end_at_the_end_of_the_data(end: bytes) -> None:
    assert amf0.decode(b"\x08\0\0\0\x01" + key("a") + number(1) + end) == [{"a": 1.0}]


@pytest.mark.parametrize("marker", [0x04, 0x0D, 0x0E], ids=["movie clip", "unsupported", "record set"])
def test_types_without_a_value_decode_to_none(marker: int) -> None:
    assert amf0.decode(bytes((3, 0, 1)) + b"a" + bytes((marker,)) + b"\0\1b\x05\0\0\x09") == [{"a": None, "b": None}]


def test_strict_arrays_and_dates_decode() -> None:
    values = amf0.decode(b"\x0a\0\0\0\x02" + number(1) + b"\x05" + b"\x0b" + struct.pack(">d", 1e12) + b"\0\0")
    assert values == [[1.0, None], 1e12]
    assert isinstance(values[1], amf0.Date)


def test_reference_points_to_an_earlier_object() -> None:
    assert amf0.decode(b"\x03" + key("a") + number(1) + END + b"\x07\0\0") == [{"a": 1.0}, {"a": 1.0}]


def test_a_reference_to_the_enclosing_object_is_refused() -> None:
    with pytest.raises(InvalidData, match="reference"):
        amf0.decode(b"\x03" + key("a") + b"\x07\0\0" + END)


def test_nested_references_cannot_expand_without_bound() -> None:
    level = b"\x0a\0\0\0\x02" + b"\x05\x05"
    for index in range(40):
        level += b"\x0a\0\0\0\x02" + (b"\x07" + struct.pack(">H", index)) * 2
    with pytest.raises(InvalidData, match="too many"):
        amf0.decode(level)


def test_references_to_long_text_count_towards_the_limit() -> None:
    data = b"\x0a\0\0\0\x01\x0c" + struct.pack(">I", 200_000) + b"x" * 200_000 + b"\x07\0\0" * 20
    with pytest.raises(InvalidData, match="too many"):
        amf0.decode(data)


def test_broken_utf8_is_replaced() -> None:
    assert amf0.decode(b"\x02\0\x02\xff\xfe") == ["\ufffd\ufffd"]


def test_the_nesting_depth_is_bounded() -> None:
    with pytest.raises(InvalidData, match="deeper"):
        amf0.decode(b"\x0a\0\0\0\x01" * 40 + b"\x05")
    assert amf0.decode(b"\x0a\0\0\0\x01" * 32 + b"\x05")


def test_the_number_of_items_is_bounded() -> None:
    with pytest.raises(InvalidData, match="too many"):
        amf0.decode(b"\x05" * 11, max_items=5)


def test_an_array_with_a_count_above_its_data_is_refused() -> None:
    with pytest.raises(InvalidData, match="claims"):
        amf0.decode(b"\x0a\x00\x00\xff\xff\x05")


@pytest.mark.parametrize("data", [b"\x00\x00", b"\x02\x00\x05ab", b"\x03\x00\x01a", b"\x12", b"\xff", b"\x0b\0"])
def test_truncated_and_unknown_values_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        amf0.decode(data)


def test_read_returns_the_offset_after_the_value() -> None:
    assert amf0.read(b"\x02\x00\x02hirest") == ("hi", 5)


def test_values_are_encoded_in_their_amf0_form() -> None:
    assert amf0.encode("a", 1, True, None) == b"\x02\x00\x01a" + number(1) + b"\x01\x01" + b"\x05"
    assert amf0.encode({"a": 1.0}) == b"\x03" + key("a") + number(1) + END
    assert amf0.encode(amf0.EcmaArray(a=1.0))[:5] == b"\x08\0\0\0\x01"
    assert amf0.encode("x" * 70_000)[:5] == b"\x0c" + struct.pack(">I", 70_000)
    with pytest.raises(TypeError):
        amf0.encode(b"bytes")  # type: ignore[arg-type]


def test_dates_and_ecma_arrays_survive_a_round_trip() -> None:
    data = amf0.encode(amf0.EcmaArray(at=amf0.Date(1e12)))
    assert amf0.encode(*amf0.decode(data)) == data


_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(_VALUES, max_size=4))
def test_encoded_values_decode_to_the_same_values(values: list) -> None:
    def known(value):  # lone surrogates are written as "?"
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, list):
            return [known(v) for v in value]
        if isinstance(value, dict):
            return {known(k): known(v) for k, v in value.items()}
        return value

    assert amf0.decode(amf0.encode(*values)) == known(values)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_or_raise_invalid_data(data: bytes) -> None:
    for prefix in (b"", b"\x11"):
        with contextlib.suppress(InvalidData):
            amf0.decode(prefix + data)


# AMF3 behind marker 0x11


def amf3(data: bytes):
    values = amf0.decode(b"\x11" + data)
    assert len(values) == 1
    return values[0]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x00", None),
        (b"\x01", None),
        (b"\x02", False),
        (b"\x03", True),
        (b"\x04\x7f", 127.0),
        (b"\x04\x81\x00", 128.0),
        (b"\x04\xff\xff\xff\xff", -1.0),
        (b"\x05" + struct.pack(">d", 2.5), 2.5),
        (b"\x06\x05hi", "hi"),
        (b"\x08\x01" + struct.pack(">d", 5.0), 5.0),
        (b"\x0c\x05\x00\xff", "\x00\xff"),
        (b"\x09\x05\x01\x04\x01\x04\x02", [1.0, 2.0]),
        (b"\x09\x03\x03a\x04\x01\x01\x04\x02", {"a": 1.0, "0": 2.0}),
        (b"\x0a\x0b\x01\x03a\x04\x01\x01", {"a": 1.0}),
        (b"\x0a\x13\x01\x03a\x04\x01", {"a": 1.0}),
        (b"\x09\x05\x01\x06\x03a\x06\x00", ["a", "a"]),
        (b"\x09\x05\x01\x0a\x13\x01\x03a\x04\x01\x0a\x01\x04\x02", [{"a": 1.0}, {"a": 2.0}]),
        (b"\x09\x05\x01\x09\x03\x01\x04\x01\x09\x02", [[1.0], [1.0]]),
        (b"\x0d\x05\x00\0\0\0\1\xff\xff\xff\xff", [1.0, -1.0]),
        (b"\x0e\x03\x01\xff\xff\xff\xff", [4294967295.0]),
        (b"\x0f\x03\x00" + struct.pack(">d", 2.5), [2.5]),
        (b"\x10\x05\x00\x01\x06\x03a\x04\x02", ["a", 2.0]),
        (b"\x09\x05\x01\x0d\x03\x00\0\0\0\1\x0d\x02", [[1.0], [1.0]]),
        (b"\x11\x03\x00\x06\x03a\x04\x02", [["a", 2.0]]),
    ],
)
def test_amf3_values_decode(data: bytes, value: object) -> None:
    assert amf3(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"\x0d\x05\x00\0",
        b"\x11\x7f\x00",
        b"\x10\x7f\x00\x01",
        b"\x12",
        b"\x0a\x07\x01",
        b"\x06\x02",
        b"\x09\x00",
        b"\x0a\x05",
        b"\x09\x7f\x01",
        b"",
    ],
)
def test_invalid_amf3_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        amf0.decode(b"\x11" + data)


def test_amf0_continues_after_an_amf3_value() -> None:
    assert amf0.decode(b"\x11\x04\x05" + number(1)) == [5.0, 1.0]
