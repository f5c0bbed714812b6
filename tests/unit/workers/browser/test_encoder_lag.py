"""When an encoder is late, for media that arrive in slices."""

from __future__ import annotations

from gateway.workers.programs.browser.browser_video import EncoderLag


def sliced(lateness: EncoderLag, slice: float, until: float, *, start: float = 100.0, step: float = 0.05) -> None:
    """Media with a picture every `step` seconds; each slice arrives with its last picture."""
    count = round(until / step)
    for n in range(count):
        time = n * step
        came = start + (time // slice + 1) * slice
        lateness.record_arrival(time, came)


def test_work_that_ends_before_the_next_slice_is_not_late() -> None:
    lateness = EncoderLag()
    sliced(lateness, 1.0, 4.0)
    # The last slice came at 104 and held 3.0 to 4.0; the next comes at 105.
    assert lateness.behind(3.0, 104.0) == 0
    assert lateness.behind(3.95, 104.9) == 0
    assert round(lateness.behind(3.95, 105.45), 3) == 0.5


def test_the_lag_of_single_pictures_begins_with_their_arrival() -> None:
    lateness = EncoderLag()
    for n in range(40):
        lateness.record_arrival(n * 0.05, 100 + n * 0.05)
    assert round(lateness.behind(1.95, 102.25), 3) == 0.3


def test_media_faster_than_real_time_are_never_late() -> None:
    lateness = EncoderLag()
    for n in range(1000):
        lateness.record_arrival(n * 0.04, 50.0)
    assert lateness.behind(0.0, 50.0) == 0
    assert lateness.behind(20.0, 69.0) == 0


def test_a_stall_of_the_network_is_ignored_for_some_seconds_only() -> None:
    lateness = EncoderLag()
    lateness.record_arrival(0.0, 100.0)
    lateness.record_arrival(1.0, 105.0)  # four seconds late
    assert lateness.behind(1.0, 105.0) == 0
    for n in range(2, 15):
        lateness.record_arrival(float(n), 104.0 + n * 0.01 if n < 5 else 100.0 + n)
    assert round(lateness.behind(14.0, 118.0), 3) == 4.0


def test_without_media_nothing_is_late() -> None:
    assert EncoderLag().behind(0.0, 1e9) == 0
