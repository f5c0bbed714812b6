"""The metrics of the WebRTC port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.lib import metric_table
from gateway.lib.metric_table import MetricSample, by_label
from gateway.webrtc.counters import Dropped
from gateway.webrtc.handler import PeerEnd

if TYPE_CHECKING:
    from gateway.webrtc.endpoint import WebRtcEndpoint


def endpoint_samples(endpoint: WebRtcEndpoint) -> Iterator[MetricSample]:
    """Yields the metrics of an endpoint. Every reason has a value from the beginning, so that rates are right."""
    counters, opening = endpoint.counters, endpoint.half_open
    states = {"opening": opening, "connected": endpoint.peers - opening}
    yield from by_label(metric_table.WEBRTC_CONNECTIONS, states)
    yield MetricSample(metric_table.WEBRTC_TCP, endpoint.tcp_connections)
    datagrams = {"in": counters.datagrams_in, "out": counters.datagrams_out}
    yield from by_label(metric_table.WEBRTC_DATAGRAMS, datagrams)
    yield from by_label(metric_table.WEBRTC_BYTES, {"in": counters.bytes_in, "out": counters.bytes_out})
    yield from by_label(metric_table.WEBRTC_DROPPED, {str(reason): counters.dropped[reason] for reason in Dropped})
    yield from by_label(metric_table.WEBRTC_ENDED, {str(reason): counters.ended[reason] for reason in PeerEnd})
    yield MetricSample(metric_table.WEBRTC_REFUSED, counters.refused)
