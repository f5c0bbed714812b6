"""Outputs are created on time, supervised, and switched while live."""

import asyncio
import time
from typing import Any

import pytest

from gateway.channels.channel import Channel
from gateway.lib.backoff import Backoff
from gateway.live import output as outputs_module
from gateway.live import output_fault
from gateway.live.hub import Hub
from gateway.live.output import Outputs, OutputSpec, OutputState
from gateway.live.publisher import StreamPublisher
from gateway.live.stream import Stream
from gateway.ports.errors import INTERNAL_ERROR, OutputError, OutputUnsupported
from gateway.ports.events import Event, Events, EventType
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture, publish
from tests.support.time_outs import at_most
from tests.support.waiting import until


def on(stream: Stream) -> bool:
    return True


class Prompted(Recorder):
    """An output that attaches itself as soon as it is created."""

    def begin(self, stream: Stream) -> None:
        stream.attach(self)

    async def run(self, stream: Stream) -> None:
        await stream.over()


class Failing:
    """An output that fails `times` times and then runs."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.runs = error, times, 0

    async def run(self, stream: Stream) -> None:
        self.runs += 1
        if self.runs <= self.times:
            raise self.error
        await stream.over()


async def test_an_output_that_attaches_at_once_gets_a_whole_burst() -> None:
    output = Prompted()
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)])
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    now = time.monotonic()
    for n in range(4):  # several GOPs before the loop turns once
        publisher.push(picture(n * 1000, key=True), now)
    assert [u.dts for u in output.units] == [0, 1000, 2000, 3000]
    hub.drain()
    await hub.drained()


async def test_an_output_that_cannot_carry_the_stream_fails_without_retry() -> None:
    output = Failing(OutputUnsupported("no AV1 in MPEG-TS"), 99)
    events, seen = Events(), list[Event]()
    events.listen(seen.append)
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)], events=events)
    stream = publish(hub).stream
    assert stream.outputs is not None
    while stream.outputs.status()[0]["state"] != OutputState.FAILED:
        await asyncio.sleep(0)
    assert stream.outputs.status() == [
        {"name": "hls", "enabled": True, "state": "failed", "error": "no AV1 in MPEG-TS"}
    ]
    assert output.runs == 1
    assert [e.type for e in seen] == ["publish.started", "output.failed"]
    hub.drain()
    await hub.drained()


async def push_with_failed_output(hub: Hub) -> tuple[StreamPublisher, Outputs]:
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    outputs = publisher.stream.outputs
    assert isinstance(outputs, Outputs)
    while outputs.states() != [("hls", "failed")]:
        await asyncio.sleep(0)
    return publisher, outputs


async def test_an_output_that_could_not_carry_the_tracks_starts_again_with_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output_fault, "WORKED_SECONDS", 0.0)
    output = Failing(OutputUnsupported("no AV1 in MPEG-TS"), 2)
    events, seen = Events(), list[str]()
    events.listen(lambda event: seen.append(event.type) if event.type.startswith("output.") else None)
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)], events=events)
    publisher, outputs = await push_with_failed_output(hub)
    publisher.set_tracks(VIDEO, None, {"title": "the same tracks"})
    await asyncio.sleep(0)
    assert (output.runs, outputs.states()) == (1, [("hls", "failed")])
    publisher.set_tracks(VIDEO, AUDIO, {})
    await asyncio.sleep(0)
    assert (output.runs, outputs.states()) == (2, [("hls", "failed")])
    publisher.set_tracks(None, AUDIO, {})
    while outputs.states() != [("hls", "running")]:
        await asyncio.sleep(0)
    assert (output.runs, seen) == (3, ["output.failed", "output.recovered"])
    hub.drain()
    await hub.drained()


@pytest.mark.parametrize("by_override", [False, True])
async def test_an_output_starts_again_with_other_tracks_of_either_timeline(by_override: bool) -> None:
    output = Failing(OutputUnsupported("no AV1 in MPEG-TS"), 1)
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)])
    publisher, outputs = await push_with_failed_output(hub)
    override = publisher.stream.override()
    override.engage()
    if by_override:
        override.set_tracks(VIDEO, None, {}, False)
    else:
        publisher.set_tracks(VIDEO, AUDIO, {})
    await asyncio.sleep(0)
    assert (output.runs, outputs.states()) == (2, [("hls", "retrying")])
    override.close()
    hub.drain()
    await hub.drained()


class Late(Failing):
    """An output that notices later that it cannot carry the tracks."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error, 1)
        self.notices = asyncio.Event()

    async def run(self, stream: Stream) -> None:
        await self.notices.wait()
        await super().run(stream)


async def test_an_output_that_failed_after_the_tracks_changed_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs_module, "Backoff", lambda: Backoff(0.001, 0.001))
    output = Late(OutputUnsupported("no AV1 in MPEG-TS"))
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)])
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    await asyncio.sleep(0)
    publisher.set_tracks(VIDEO, AUDIO, {})
    output.notices.set()
    while output.runs < 2:
        await asyncio.sleep(0)
    hub.drain()
    await hub.drained()


async def test_an_output_can_be_switched_off_and_on_while_live() -> None:
    made: list[Prompted] = []

    def make(stream: Stream) -> Prompted:
        made.append(Prompted())
        return made[-1]

    hub = builders.hub([OutputSpec("hls", make, on)])
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    outputs = publisher.stream.outputs
    assert outputs is not None
    await asyncio.sleep(0)
    outputs.switch("hls", False)
    assert outputs.get("hls") is None
    assert not outputs.enabled("hls")
    outputs.switch("hls", True)
    assert outputs.get("hls") is made[1]
    hub.drain()
    await hub.drained()


async def test_an_on_demand_output_is_created_at_its_first_request() -> None:
    made: list[Prompted] = []

    def make(stream: Stream) -> Prompted:
        made.append(Prompted())
        return made[-1]

    hub = builders.hub([OutputSpec("hls", make, on, on_demand=True)])
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    publisher.push(picture(0, key=True), time.monotonic())
    await asyncio.sleep(0)
    outputs = publisher.stream.outputs
    assert outputs is not None
    assert (made, outputs.status()[0]["state"]) == ([], "waiting")
    assert outputs.get("hls") is made[0]
    assert [u.dts for u in made[0].units] == [0]
    hub.drain()
    await hub.drained()


async def test_an_output_that_fails_again_and_again_has_one_failed_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_fault, "WORKED_SECONDS", 0.05)
    monkeypatch.setattr(outputs_module, "Backoff", lambda: Backoff(0.001, 0.001))
    failing = Failing(OutputError("the disk is full"), 5)
    events, seen = Events(), list[Event]()
    recovered = asyncio.Event()
    events.listen(lambda event: seen.append(event) if event.type.startswith("output.") else None)
    events.listen(lambda event: recovered.set() if event.type is EventType.OUTPUT_RECOVERED else None)
    hub = builders.hub([OutputSpec("video", lambda stream: failing, on)], events=events)
    outputs = publish(hub).stream.outputs
    assert outputs is not None
    while failing.runs <= failing.times:
        await asyncio.sleep(0)
    assert outputs.status()[0] == {"name": "video", "enabled": True, "state": "retrying", "error": "the disk is full"}
    assert (outputs.states(), outputs.faults()) == ([("video", "retrying")], {"video": "the disk is full"})
    await recovered.wait()
    assert (outputs.states(), outputs.faults()) == ([("video", "running")], {})
    assert [e.type for e in seen] == ["output.failed", "output.recovered"]
    hub.drain()
    await hub.drained()


class Troubled(Prompted):
    """An output that runs with a problem."""

    def report(self) -> dict[str, Any]:
        return {"error": "the rendition 720p is missing"}


async def test_an_output_that_runs_with_a_problem_is_degraded() -> None:
    hub = builders.hub([OutputSpec("codec", lambda stream: Troubled(), on)])
    outputs = publish(hub).stream.outputs
    assert outputs is not None
    await asyncio.sleep(0)
    assert outputs.faults() == {"codec": "the rendition 720p is missing"}
    assert (outputs.status()[0]["state"], outputs.states()) == ("degraded", [("codec", "degraded")])
    hub.drain()
    await hub.drained()


class Faulty:
    """An output of somebody else. fault: the method that raises; it is `make` for the constructor."""

    def __init__(self, stream: Stream, fault: str) -> None:
        self.fault = fault
        self._check("make")

    def _check(self, method: str) -> None:
        if self.fault == method:
            raise ZeroDivisionError(method)

    def begin(self, stream: Stream) -> None:
        self._check("begin")

    def channel_changed(self, channel: Channel) -> None:
        self._check("channel_changed")

    def report(self) -> dict[str, Any]:
        self._check("report")
        return {}

    async def run(self, stream: Stream) -> None:
        self._check("run")
        await stream.over()


async def test_the_end_of_a_stream_does_not_wait_for_the_next_attempt_of_an_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outputs_module, "Backoff", lambda: Backoff(3600.0, 3600.0))
    monkeypatch.setattr(outputs_module, "FINISH_SECONDS", 3600.0)
    output = Failing(OutputError("the disk is full"), 1)
    hub = builders.hub([OutputSpec("hls", lambda stream: output, on)])
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    outputs = publisher.stream.outputs
    assert outputs is not None
    await until(lambda: outputs.states() == [("hls", "retrying")])
    hub.drain()
    async with asyncio.timeout(at_most(10)):
        await hub.drained()
    assert output.runs == 1


@pytest.mark.parametrize("fault", ["make", "begin", "channel_changed", "report", "run"])
async def test_an_error_in_any_method_of_an_output_is_its_own(fault: str) -> None:
    other = Prompted()
    specs = [OutputSpec("faulty", lambda stream: Faulty(stream, fault), on), OutputSpec("hls", lambda _: other, on)]
    hub = builders.hub(specs)
    publisher = publish(hub)
    publisher.set_tracks(VIDEO, None, {})
    outputs = publisher.stream.outputs
    assert outputs is not None
    for _ in range(4):  # until `run` has begun
        await asyncio.sleep(0)
    outputs.channel_changed()
    publisher.push(picture(0, key=True), time.monotonic())
    assert len(other.units) == 1
    (status, _) = outputs.status()
    expected = "its report failed (ZeroDivisionError)" if fault == "report" else INTERNAL_ERROR
    assert status["error"] == expected
    hub.drain()
    await hub.drained()
