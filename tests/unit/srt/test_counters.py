"""The metrics of the SRT port."""

from typing import Any, cast
from unittest.mock import Mock

from gateway.protocols.srt.packets import Reject
from gateway.srt.counters import SrtCounters
from gateway.srt.link import Direction, SrtLink


def link(direction: Direction, **counts: int) -> SrtLink:
    connection = Mock(received=Mock(**counts), sent=Mock(**counts))
    return SrtLink(cast(Any, connection), Mock(), "192.0.2.1", Mock(), direction=direction)


def samples(counters: SrtCounters, *links: SrtLink) -> dict[tuple[str, ...], float]:
    return {(sample.metric.name, *sample.labels): sample.value for sample in counters.samples(links)}


def test_packets_of_closed_links_stay_in_the_sums() -> None:
    counters = SrtCounters()
    push = link(Direction.PUBLISH, received=100, lost=7, retransmitted=6, dropped=1)
    play = link(Direction.PLAY, sent=50, retransmitted=2, dropped=0)
    before = samples(counters, push, play)
    assert before["millrace_srt_connections", "publish"] == before["millrace_srt_connections", "play"] == 1
    counters.close(push)
    counters.close(play)
    after = samples(counters)
    assert after["millrace_srt_connections", "publish"] == 0
    packets = {labels: value for labels, value in after.items() if labels[0] == "millrace_srt_packets_total"}
    assert packets == {labels: value for labels, value in before.items() if labels in packets}
    assert packets["millrace_srt_packets_total", "publish", "lost"] == 7
    assert len(packets) == 7


def test_refusals_have_few_labels_from_the_beginning() -> None:
    counters = SrtCounters()
    counters.refuse(Reject.UNAUTHORIZED)
    counters.refuse(Reject.BAD_SECRET)
    refused = {key[1]: value for key, value in samples(counters).items() if key[0] == "millrace_srt_refused_total"}
    assert refused == {"10xx": 1, "14xx": 1}
