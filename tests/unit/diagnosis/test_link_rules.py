"""The faults of a push's link: when they are found and withdrawn, and what their texts say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.channels.inputs import InputKind
from gateway.diagnosis.link_rules import multiplier, needed_latency
from gateway.live.on_air import InputOnAir
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics
from tests.unit.diagnosis.rig import Push

GOOD = LinkStatistics(60.0, 0.0, 0, 0, 360, 350, (LinkPath("192.0.2.7", 100.0, 60.0, "up"),))


def linked(push: Push, state: LinkStatistics) -> None:
    push.publisher.network = lambda: state


def bonded(*is_up: bool) -> LinkStatistics:
    return replace(
        GOOD, links=tuple(LinkPath(f"192.0.2.{n}", 50.0, None, "up" if up else "down") for n, up in enumerate(is_up))
    )


@pytest.mark.parametrize(("loss", "ratio"), [(0, 3), (1, 3), (1.1, 4), (3, 4), (7, 5), (7.5, 6), (10, 6), (25, 6)])
def test_the_multiplier_is_that_of_the_guide(loss: float, ratio: int) -> None:
    assert multiplier(loss) == ratio


def test_the_needed_latency_is_rounded_up() -> None:
    assert needed_latency(replace(GOOD, loss_percent=2.0)) == 240
    assert needed_latency(replace(GOOD, loss_percent=2.0, rtt_ms=61.2)) == 250
    assert needed_latency(replace(GOOD, loss_percent=2.0, rtt_ms=None)) == 0


def test_a_good_link_has_no_fault() -> None:
    push = Push()
    for state in (GOOD, replace(GOOD, loss_percent=10.0), replace(GOOD, latency_ms=20), replace(GOOD, rtt_ms=None)):
        linked(push, state)
        assert push.send(5) == []


def test_loss_with_a_short_latency_gives_both_faults_and_the_text_has_the_latency_to_set() -> None:
    push = Push()
    linked(push, replace(GOOD, loss_percent=2.5, latency_ms=120))
    assert push.send(4) == ["link_loss", "link_latency_low"]
    text = "Latency 120 ms is less than 4 × the round trip of 60 ms: set 240 ms."
    assert (push.text("link_latency_low"), push.value("link_latency_low")) == (text, 240)
    assert push.value("link_loss") == 2.5
    linked(push, GOOD)
    assert push.send(4) != [], "not at once"
    assert push.send(4) == []


def test_little_loss_with_a_short_latency_is_only_a_low_latency() -> None:
    push = Push()
    linked(push, replace(GOOD, loss_percent=0.4, latency_ms=120))
    assert push.send(4) == ["link_latency_low"]
    assert push.value("link_latency_low") == 180


def test_loss_beyond_the_guide_is_a_fault_with_every_latency() -> None:
    push = Push()
    linked(push, replace(GOOD, loss_percent=12.0, latency_ms=2_000))
    assert push.send(4) == ["link_loss"]
    assert push.text("link_loss").startswith("The link loses 12.0 % of the packets")


def test_a_fault_neither_flaps_at_its_limit_nor_comes_for_a_moment() -> None:
    push = Push()
    push.send(3)
    linked(push, replace(GOOD, loss_percent=3.0, latency_ms=120))
    assert push.send(1) == []
    linked(push, GOOD)
    assert push.send(5) == []
    for _ in range(20):
        for loss in (1.2, 0.6):  # around the limit of 1 %
            linked(push, replace(GOOD, loss_percent=loss, latency_ms=120))
            push.send(3)
    assert [told for told in push.told if told[0] == "link_loss"] == [("link_loss", "begun")]


def test_one_of_several_links_that_is_down_is_a_fault() -> None:
    push = Push()
    linked(push, bonded(True, False, True))
    assert push.send(1) == [] or push.codes == ["link_down"]
    assert push.send(2) == ["link_down"]
    assert push.text("link_down") == "1 of 3 links bring nothing: check their modems."
    linked(push, bonded(True, True, True))
    assert push.send(8) == []


@pytest.mark.parametrize("links", [(False,), (True,), (False, False), ()])
def test_no_link_is_missed_if_it_is_the_only_one_or_all_are_down(links: tuple[bool, ...]) -> None:
    push = Push()
    linked(push, bonded(*links))
    assert push.send(5) == []


def test_the_faults_of_the_link_are_found_on_the_slate_and_the_text_says_that_the_input_is_thin() -> None:
    push = Push()
    push.send(3)
    push.stream.input = InputOnAir("slate", InputKind.SLATE, push.now, 800)
    linked(push, replace(GOOD, loss_percent=20.0))
    assert push.send(10) == ["input_lost", "link_loss"]
    assert "has been below 800 kbit/s for" in push.text("input_lost")
