"""Private data of transport streams as script data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import amf0
from gateway.formats.private_data import PRIVATE_DATA, PrivateData, private_data, read_private_data
from gateway.media.track import Timed


@given(
    st.integers(0, 0x1FFF), st.integers(0, 255), st.binary(max_size=20), st.none() | st.integers(0, 9000), st.binary()
)
def test_it_returns_as_it_was(pid: int, kind: int, descriptors: bytes, at: int | None, payload: bytes) -> None:
    data = PrivateData(pid, kind, descriptors, at, payload)
    assert read_private_data(private_data(data, 4000)) == data


GOOD = {"pid": 256.0, "type": 6.0, "descriptors": "", "data": "AA=="}


@pytest.mark.parametrize(
    "change",
    [{"pid": 9000.0}, {"type": 256.0}, {"type": "6"}, {"pid": float("nan")}, {"data": "ü"}, {"data": "A"},
     {"descriptors": 3.0}, {"data": "A" * 100_000}],
)  # fmt: skip
def test_other_values_are_no_private_data(change: dict[str, float | str]) -> None:
    assert read_private_data(Timed(0, PRIVATE_DATA, amf0.encode(dict(GOOD)))) is not None
    assert read_private_data(Timed(0, PRIVATE_DATA, amf0.encode(GOOD | change))) is None


def test_a_far_time_is_unknown() -> None:
    found = read_private_data(Timed(5, PRIVATE_DATA, amf0.encode(GOOD | {"at": 1e9})))
    assert found is not None and found.at is None


@given(st.binary(max_size=80))
def test_any_bytes_raise_nothing(data: bytes) -> None:
    read_private_data(Timed(0, PRIVATE_DATA, data))
    assert read_private_data(Timed(0, "onText", data)) is None
