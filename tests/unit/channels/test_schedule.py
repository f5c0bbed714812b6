"""Schedules: the hours in which a channel is recorded."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alarms.rule import QuietHours
from gateway.channels.channel import Channel
from gateway.channels.fields import check
from gateway.channels.schedule import Schedule
from gateway.ports.errors import InvalidField

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: object = UTC) -> float:
    """Returns the timestamp of a local time. 2026-11-16 is a Monday."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("mon-fri 08:00-18:00", ["2026-11-16T08:00", "2026-11-20T17:59"], ["2026-11-16T07:59", "2026-11-16T18:00",
                                                                           "2026-11-21T12:00"]),
        ("sat 10:00-12:00", ["2026-11-21T11:00"], ["2026-11-20T11:00", "2026-11-22T11:00"]),
        ("mon-fri 08:00-18:00, sat 10:00-12:00", ["2026-11-17T09:00", "2026-11-21T10:00"], ["2026-11-22T10:30"]),
        ("22:00-02:00", ["2026-11-16T23:00", "2026-11-17T01:59"], ["2026-11-16T02:00", "2026-11-16T21:59"]),
        ("fri-mon 00:00-24:00", ["2026-11-20T00:00", "2026-11-22T12:00", "2026-11-16T23:59"], ["2026-11-17T00:00"]),
        ("Sun 22:00 - 06:00", ["2026-11-22T22:00", "2026-11-23T05:59"], ["2026-11-22T05:00", "2026-11-23T06:00"]),
        ("daily 9:00-9:30", ["2026-11-18T09:29"], ["2026-11-18T09:30"]),
    ],
)  # fmt: skip
def test_a_schedule_is_active_only_inside_its_windows(text: str, inside: list[str], outside: list[str]) -> None:
    schedule = Schedule.parse(text)
    assert all(schedule.active(at(t)) for t in inside)
    assert not any(schedule.active(at(t)) for t in outside)


@pytest.fixture
def zones(tmp_path: Path) -> Iterator[Path]:
    """The folder of the machine's time zones. It is empty."""
    ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[tmp_path])
    yield tmp_path
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()


@pytest.mark.parametrize(
    ("of_chromium", "of_debian"),
    [
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("Asia/Saigon", "Asia/Ho_Chi_Minh"),
        ("Europe/Kiev", "Europe/Kyiv"),
        ("America/Buenos_Aires", "America/Argentina/Buenos_Aires"),
    ],
)
def test_a_zone_that_a_browser_names_by_its_earlier_name_is_known(
    zones: Path, of_chromium: str, of_debian: str
) -> None:
    (zones / of_debian).parent.mkdir(parents=True)
    (zones / of_debian).write_bytes(Path("/usr/share/zoneinfo", of_debian).read_bytes())
    assert str(Schedule.parse(f"08:00-18:00 {of_chromium}").zone) == of_debian
    assert str(QuietHours.model_validate({"from": "22:00", "to": "07:00", "zone": of_chromium}).tzinfo) == of_debian


def test_utc_needs_no_files_and_other_zones_name_the_missing_package(zones: Path) -> None:
    assert Schedule.parse("08:00-18:00 UTC").zone is UTC
    assert QuietHours.model_validate({"from": "22:00", "to": "07:00"}).contains(at("2026-11-16T23:00"))
    with pytest.raises(ValueError, match=r"not Europe/Berlin: this machine has none \(Debian: tzdata\)"):
        Schedule.parse("08:00-18:00 Europe/Berlin")


def test_windows_use_the_time_zone_of_the_schedule() -> None:
    schedule = Schedule.parse("mon-fri 08:00-18:00, sat 10:00-12:00 Europe/Berlin")
    assert schedule.active(at("2026-11-16T08:30", BERLIN))
    assert schedule.active(at("2026-11-16T07:30"))
    assert not schedule.active(at("2026-11-16T17:30"))


def test_windows_keep_their_local_time_over_a_daylight_saving_change() -> None:
    schedule = Schedule.parse("08:00-18:00 Europe/Berlin")
    assert (
        schedule.next_change(at("2026-03-28T20:00", BERLIN)) == at("2026-03-29T08:00", BERLIN) == at("2026-03-29T06:00")
    )
    assert schedule.next_change(at("2026-03-27T20:00", BERLIN)) == at("2026-03-28T07:00")


@pytest.mark.parametrize(
    ("text", "now", "change"),
    [
        ("mon-fri 08:00-18:00", "2026-11-16T09:00", "2026-11-16T18:00"),
        ("mon-fri 08:00-18:00", "2026-11-20T18:00", "2026-11-23T08:00"),
        ("08:00-12:00, 12:00-18:00", "2026-11-16T09:00", "2026-11-16T18:00"),
        ("22:00-02:00", "2026-11-16T01:00", "2026-11-16T02:00"),
        ("sun 00:00-01:00", "2026-11-15T01:00", "2026-11-22T00:00"),
    ],
)
def test_the_next_change_is_the_next_end_or_start_of_a_window(text: str, now: str, change: str) -> None:
    assert Schedule.parse(text).next_change(at(now)) == at(change)


def test_a_schedule_for_the_whole_day_never_changes() -> None:
    assert Schedule.parse("00:00-24:00").next_change(at("2026-11-16T09:00")) == float("inf")


@pytest.mark.parametrize(
    "text",
    ["", "always", "mon", "08:00", "08:00-25:00", "8-18", "08:60-09:00", "mon-fry 08:00-18:00", "08:00-08:00",
     "24:00-02:00", "08:00-18:00,", "08:00-18:00; 19:00-20:00", "08:00-18:00 Mars/Olympus", "08:00-18:00 ../../etc",
     "mon 08:00-18:00 " + "x" * 2000, ", ".join(["08:00-09:00"] * 51)],
)  # fmt: skip
def test_an_invalid_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Schedule.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_with_an_error_message(text: str) -> None:
    try:
        Schedule.parse(text)
    except ValueError as error:
        assert str(error).startswith("expected")


@given(st.integers(1_700_000_000, 1_900_000_000), st.sampled_from(("mon-fri 08:00-18:00", "22:00-06:00 Europe/Berlin")))
def test_a_schedule_stays_the_same_until_its_next_change(now: int, text: str) -> None:
    schedule = Schedule.parse(text)
    change = schedule.next_change(now)
    active = schedule.active(now)
    assert now < change
    assert all(schedule.active(now + (change - now) * part) is active for part in (0.01, 0.5, 0.99))
    assert schedule.active(change) is not active


def test_a_channel_has_a_recording_schedule_and_retention_days() -> None:
    channel = Channel({"id": "a", "recordSchedule": "mon 08:00-09:00", "retentionDays": "30"})
    assert channel.record_schedule == Schedule.parse("mon 08:00-09:00")
    assert channel.retention_days == 30
    assert Channel({"id": "a"}).record_schedule is None
    assert Channel({"id": "a", "recordSchedule": "", "retentionDays": ""}).retention_days is None
    assert Channel({"id": "a", "retentionDays": 0}).retention_days == 0


@pytest.mark.parametrize(("name", "value"), [("recordSchedule", "sometimes"), ("recordSchedule", 5),
                                             ("retentionDays", -1), ("retentionDays", 1.5), ("retentionDays", "soon"),
                                             ("retentionDays", 10**9)])  # fmt: skip
def test_invalid_schedules_and_retention_days_of_a_channel_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidField, match=name):
        check(name, value)


@pytest.mark.parametrize(("name", "value"), [("recordSchedule", None), ("recordSchedule", " "), ("retentionDays", None),
                                             ("retentionDays", "7")])  # fmt: skip
def test_schedule_and_retention_days_can_be_removed(name: str, value: object) -> None:
    check(name, value)
