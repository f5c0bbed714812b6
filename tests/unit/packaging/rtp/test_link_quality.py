"""LinkQuality: when a viewer gets smaller pictures, and larger ones again."""

from itertools import pairwise

from gateway.packaging.rtp.link_quality import LinkQuality


def asked(link: LinkQuality, begin: int, end: int, lost: float, trip: float | None = 0.03) -> list[tuple[int, int]]:
    """Seconds and steps, for one report a second."""
    found = [(second, link.report(lost, trip, float(second))) for second in range(begin, end)]
    return [(second, step) for second, step in found if step]


def test_repairable_losses_change_nothing() -> None:
    assert not asked(LinkQuality(), 0, 300, 0.06)


def test_losses_and_queues_cause_smaller_pictures_after_three_reports() -> None:
    assert asked(LinkQuality(), 0, 12, 0.3) == [(2, -1), (9, -1)]
    link = LinkQuality()
    assert not asked(link, 0, 5, 0.0)
    assert asked(link, 5, 12, 0.0, 0.6) == [(7, -1)]
    assert not asked(LinkQuality(), 0, 10, 0.0, 0.6), "a long way is no queue"
    assert not asked(LinkQuality(), 0, 10, 0.0, None)


def test_single_bad_reports_change_nothing() -> None:
    link = LinkQuality()
    for second in range(0, 12, 3):
        assert not asked(link, second, second + 2, 0.5)
        assert not asked(link, second + 2, second + 3, 0.05)


def test_the_wait_before_larger_pictures_grows_after_each_failure() -> None:
    link, larger, tried = LinkQuality(), True, []
    for second in range(2_000):
        step = link.report(0.5 if larger else 0.0, 0.03, float(second))
        if step:
            assert step == (-1 if larger else 1)
            larger = not larger
            if larger:
                tried.append(second)
    waits = [b - a for a, b in pairwise(tried)]
    assert waits[:3] == [42, 72, 132]
    assert set(waits[3:]) == {252}
