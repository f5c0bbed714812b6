"""The requested time of a clip or an export, and the name of the downloaded file."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.answers import BadRequest
from gateway.api.clips import ClipTime, clip_time, disposition
from gateway.channels.channel import Channel

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def read(**values: Any) -> ClipTime:
    return clip_time(values, NOW, 600, "use an export")


@pytest.mark.parametrize(
    "start",
    [NOW - 60, str(NOW - 60), (NOW - 60) * 1000, "2027-01-15T07:59:00Z", "2027-01-15T07:59:00", "2027-01-15 07:59:00",
     "2027-01-15T08:59:00+01:00", "2027-01-15T08:59:00 01:00"],
)  # fmt: skip
def test_a_time_is_in_seconds_milliseconds_or_iso_format(start: Any) -> None:
    assert read(**{"from": start}) == ClipTime(NOW - 60, NOW)


def test_an_end_in_the_future_becomes_the_current_time() -> None:
    assert read(**{"from": NOW - 10, "to": NOW + 10}) == ClipTime(NOW - 10, NOW)
    assert read(**{"from": NOW - 10, "to": ""}) == ClipTime(NOW - 10, NOW)


@pytest.mark.parametrize("seconds", [30, "30", 30.0])
def test_a_clip_of_the_last_seconds_can_be_requested(seconds: Any) -> None:
    assert read(last=seconds) == ClipTime(last=30.0)


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({}, "from", "expected a time"),
        ({"from": None}, "from", "expected a time"),
        ({"from": True}, "from", "expected a time"),
        ({"from": "yesterday"}, "from", "expected a time"),
        ({"from": "1" * 50}, "from", "expected a time"),
        ({"from": -5}, "from", "expected a time"),
        ({"from": [1]}, "from", "expected a time"),
        ({"from": 10**400}, "from", "expected a time"),
        ({"from": "0001-01-01T00:00:00+23:59"}, "to", "at most"),
        ({"from": NOW}, "from", "future"),
        ({"from": NOW - 10, "to": NOW - 10}, "to", "after"),
        ({"from": NOW - 601}, "to", "use an export"),
        ({"last": 0}, "last", "above 0"),
        ({"last": "-1"}, "last", "above 0"),
        ({"last": 601}, "last", "use an export"),
        ({"last": 5, "to": NOW}, "last", "either"),
    ],
)
def test_invalid_times_are_refused(values: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(BadRequest, match=text) as refused:
        read(**values)
    assert refused.value.field == field


def test_the_file_is_named_after_channel_and_time() -> None:
    assert disposition(Channel({"id": "a", "videoname": 'Große Bühne\r\n"x"'}), NOW) == (
        'attachment; filename="Gro_e_B_hne_x-2027-01-15_08-00-00.mp4"; '
        "filename*=UTF-8''Gro%C3%9Fe%20B%C3%BChne%22x%22-2027-01-15_08-00-00.mp4"
    )
    assert 'filename="a-2027' in disposition(Channel({"id": "a", "videoname": "舞台"}), NOW)
