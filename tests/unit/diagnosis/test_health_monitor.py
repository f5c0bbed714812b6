"""Streams with health measurements, and the counts in the metrics."""

from __future__ import annotations

import pytest

from gateway.diagnosis.health_monitor import HealthMonitor
from gateway.diagnosis.stream_health import CODES
from gateway.live.health_report import HealthFinding
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from gateway.ports.events import Events
from tests.support import builders


def counts(monitor: HealthMonitor) -> dict[str, float]:
    return {sample.labels[0]: sample.value for sample in monitor()}


async def test_each_pushed_stream_has_health_until_it_ends():
    events = Events()
    hub = builders.hub(events=events)
    monitor = HealthMonitor(hub, events, lambda stream: stream.viewers["whep"] > 0)
    assert counts(monitor) == dict.fromkeys(CODES, 0)
    for name in ("c1", "c2"):
        builders.publish(hub, name).set_tracks(builders.VIDEO, None, {})
        health = hub.find(name).health
        assert health is not None
        health.findings = (HealthFinding("gop_long", "", 0.0, 5.0),)
    assert counts(monitor)["gop_long"] == 2
    hub.end("c1", EndReason.KICKED)
    assert counts(monitor)["gop_long"] == 1
    hub.drain()
    await hub.drained()
    assert sum(counts(monitor).values()) == 0


@pytest.mark.parametrize("webrtc", [True, False])
async def test_b_frames_are_a_finding_only_with_webrtc_viewers(webrtc: bool):
    events = Events()
    hub = builders.hub(events=events)
    monitor = HealthMonitor(hub, events, lambda stream: stream.viewers["whep"] > 0)
    publisher = builders.publish(hub)
    publisher.set_tracks(builders.VIDEO, None, {})
    health = hub.find("c1").health
    hub.find("c1").viewers["whep"] += webrtc
    health.evaluate(100.0, 1.7e9)
    for n in range(10):
        publisher.push(builders.picture(n * 40, n == 0, cts=(40, 120, 0, 0)[n % 4]), 100.0)
    health.evaluate(101.0, 1.7e9 + 1)
    assert counts(monitor)["b_frames"] == (1 if webrtc else 0)
    hub.drain()
    await hub.drained()


async def test_a_rendition_has_no_health_of_its_own():
    events = Events()
    hub = builders.hub(events=events)
    HealthMonitor(hub, events, lambda stream: stream.viewers["whep"] > 0)
    publisher = hub.publish_from(
        PushOrigin("ladder", "", keep_time=True, trusted=True), builders.channel(), "c1@720p", lambda reason: None
    )
    publisher.set_tracks(builders.VIDEO, None, {})
    assert hub.find("c1@720p").health is None
    hub.drain()
    await hub.drained()


async def test_health_measurements_do_not_change_how_often_the_ingest_reads():
    events = Events()
    hub = builders.hub(events=events)
    HealthMonitor(hub, events, lambda stream: stream.viewers["whep"] > 0)
    publisher = builders.publish(hub)
    publisher.set_tracks(builders.VIDEO, None, {})
    publisher.push(builders.picture(0, key=True), 1.0)
    stream = hub.find("c1")
    if stream.start_buffer is not None:
        stream.start_buffer.drop()
    assert not stream.is_awaited
    hub.drain()
    await hub.drained()
