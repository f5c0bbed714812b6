"""Viewers on other nodes: the latest report of each node counts until it expires."""

from collections import Counter

import pytest

from gateway.live import remote_viewer_counts
from gateway.live.remote_viewer_counts import FORGET_SECONDS, MAX_COUNT, RemoteViewerCounts
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def viewers(clock: Clock) -> RemoteViewerCounts:
    return RemoteViewerCounts(clock)


def test_viewer_counts_of_nodes_are_summed_by_protocol(viewers: RemoteViewerCounts):
    viewers.report("c1", "e1", {"flv": 3, "hls": 1})
    viewers.report("c1", "e2", {"flv": 4, "rtmp": 0})
    viewers.report("c2", "e1", {"flv": 100})
    assert viewers.of("c1") == Counter(flv=7, hls=1)
    assert viewers.of("nobody told") == Counter()


def test_a_report_replaces_the_previous_one_of_its_node(viewers: RemoteViewerCounts):
    viewers.report("c1", "e1", {"flv": 3, "hls": 1})
    viewers.report("c1", "e1", {"flv": 2})
    assert viewers.of("c1") == Counter(flv=2)
    viewers.report("c1", "e1", {})
    assert viewers.of("c1") == Counter()
    assert len(viewers) == 0


def test_a_node_without_reports_is_forgotten(viewers: RemoteViewerCounts, clock: Clock):
    viewers.report("c1", "e1", {"flv": 3})
    clock.now += FORGET_SECONDS / 2
    viewers.report("c1", "e2", {"flv": 1})
    clock.now += FORGET_SECONDS / 2 - 0.1
    assert viewers.of("c1") == Counter(flv=4)
    clock.now += 0.1
    assert viewers.of("c1") == Counter(flv=1)
    clock.now += FORGET_SECONDS
    assert viewers.of("c2") == Counter()
    assert len(viewers) == 0


def test_a_node_that_reports_regularly_is_kept(viewers: RemoteViewerCounts, clock: Clock):
    for _ in range(5):
        viewers.report("c1", "e1", {"flv": 3})
        clock.now += FORGET_SECONDS - 1
    assert viewers.of("c1") == Counter(flv=3)


def test_at_the_limit_the_most_recent_reports_are_kept(viewers: RemoteViewerCounts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_viewer_counts, "MAX_REPORTERS", 10)
    for number in range(15):
        viewers.report("c1", f"e{number}", {"flv": 1})
    assert len(viewers) == 10
    assert viewers.of("c1") == Counter(flv=10)
    for number in range(10):
        viewers.report("c2", f"e{number}", {"hls": 1})
    assert (viewers.of("c1"), viewers.of("c2")) == (Counter(), Counter(hls=10))


def test_a_reported_count_is_bounded(viewers: RemoteViewerCounts):
    viewers.report("c1", "e1", {"flv": 10**30, "hls": -5})
    assert viewers.of("c1") == Counter(flv=MAX_COUNT)
