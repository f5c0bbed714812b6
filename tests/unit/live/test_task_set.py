"""Remote tasks of a stream run while it lives, continue during outages of the runner, and end with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.task_set import TaskSet, TaskSets
from gateway.outputs.edges.edges_output import EdgesOutput
from gateway.outputs.edges.edges_output import stream_wants_edges as has_cluster
from gateway.outputs.ladder.remote_ladder import RemoteLadderOutput
from gateway.ports.errors import OutputError, StoreUnavailable
from gateway.ports.stores import TaskRequest
from gateway.settings.ladders import load_ladders
from tests.support import builders
from tests.support.builders import VIDEO, picture
from tests.support.task_runner import Runner
from tests.support.time_outs import at_most

HERE = "10.0.2.106:8080"


@dataclass
class Rig:
    runner: Runner = field(default_factory=Runner)
    hub: Hub = field(default_factory=builders.hub)
    count: int = 1

    def __post_init__(self) -> None:
        self.crews = TaskSets(self.runner)

    def order(self) -> TaskRequest:
        return TaskRequest("c1", "codec", "small", {}, self.count, HERE)

    def crew(self, stays: frozenset[EndReason] = frozenset(), look: float = 0.001) -> TaskSet:
        backoff = Backoff(0.001, 0.002)
        return TaskSet(self.order, self.crews, keep_running_after=stays, poll_seconds=look, backoff=backoff)

    @contextlib.asynccontextmanager
    async def running(self, crew: TaskSet) -> AsyncIterator[tuple[Stream, asyncio.Task[object]]]:
        publisher = builders.publish(self.hub)
        async with Tasks("crew") as tasks:
            yield publisher.stream, tasks.start(crew.run(publisher.stream))


async def test_tasks_run_while_the_stream_lives() -> None:
    at = Rig()
    crew = at.crew()
    async with at.running(crew) as (stream, running):
        await at.runner.until(lambda r: len(r.orders) > 3)
        assert at.runner.started == 1 and at.crews.of("c1") == ("arn:task/1",)
        at.hub.end(stream.name, EndReason.PUBLISHER_GONE)
        await running
        assert at.runner.stopped == [("c1", "codec", "publisher gone")]
        assert at.crews.of("c1") == () and crew.tasks == []


async def test_an_ended_task_is_replaced_and_counted() -> None:
    at = Rig()
    crew = at.crew()
    told: list[tuple[str, ...]] = []
    at.crews.listen(lambda channel, arns: told.append(arns))
    async with at.running(crew):
        await at.runner.until(lambda r: r.started == 1)
        at.runner.tasks["c1", "codec"].clear()
        await at.runner.until(lambda r: r.started == 2)
        assert crew.replaced == 1 and told == [("arn:task/1",), ("arn:task/2",)]


async def test_an_outage_of_the_task_runner_keeps_tasks_and_is_logged_once() -> None:
    at = Rig()
    crew = at.crew()
    with structlog.testing.capture_logs() as logs:
        async with at.running(crew) as (_, running):
            await at.runner.until(lambda r: r.started == 1)
            at.runner.fault = StoreUnavailable("ecs does not answer")
            asked = len(at.runner.orders)
            await at.runner.until(lambda r: len(r.orders) > asked + 3)
            assert [task.arn for task in crew.tasks] == ["arn:task/1"]
            assert crew.report()["error"] == "ecs does not answer" and not running.done()
            at.runner.fault = None
            asked = len(at.runner.orders)
            await at.runner.until(lambda r: len(r.orders) > asked + 1)
            assert crew.report()["error"] is None
    assert [entry["log_level"] for entry in logs].count("warning") == 1


async def test_the_output_fails_if_no_task_can_be_started() -> None:
    at = Rig()
    at.runner.fault = OutputError("ECS rejected run_task: not authorized")
    async with at.running(at.crew()) as (_, running):
        with pytest.raises(OutputError, match="not authorized"):
            await running


async def test_an_error_when_starting_more_tasks_keeps_the_running_ones() -> None:
    at = Rig()
    crew = at.crew()
    async with at.running(crew) as (_, running):
        await at.runner.until(lambda r: r.started == 1)
        at.runner.fault = OutputError("no capacity")
        asked = len(at.runner.orders)
        await at.runner.until(lambda r: len(r.orders) > asked + 2)
        assert not running.done() and crew.tasks and at.runner.stopped == []


async def test_a_changed_task_request_is_sent_at_once() -> None:
    at = Rig()
    crew = at.crew(look=3600)
    async with at.running(crew):
        await at.runner.until(lambda r: len(r.orders) == 1)
        at.count = 3
        crew.changed()
        await at.runner.until(lambda r: r.started == 3)


@pytest.mark.parametrize(("reason", "left"), [(EndReason.MOVED, 1), (EndReason.KICKED, 0)])
async def test_tasks_of_a_moved_stream_are_not_stopped(reason: EndReason, left: int) -> None:
    at = Rig()
    async with at.running(at.crew(stays=frozenset({EndReason.MOVED}))) as (stream, running):
        await at.runner.until(lambda r: r.started == 1)
        at.hub.end(stream.name, reason)
        await running
        assert len(at.runner.tasks) == left


async def test_a_task_that_cannot_be_stopped_does_not_block_the_output() -> None:
    at = Rig()
    async with at.running(at.crew()) as (stream, running):
        await at.runner.until(lambda r: r.started == 1)
        at.runner.stop_fault = StoreUnavailable("ecs does not answer")
        at.hub.end(stream.name, EndReason.PUBLISHER_GONE)
        await running


# ---- edges of one channel ----


def live(runner: Runner, **fields: object) -> tuple[Hub, StreamPublisher]:
    crews = TaskSets(runner)
    hub = builders.hub([OutputSpec("cluster", lambda s: EdgesOutput(s, crews), has_cluster)])
    return hub, builders.publish(hub, **fields)


async def test_a_channel_gets_its_configured_number_of_edges() -> None:
    runner = Runner()
    hub, publisher = live(runner, isCluster="true", clusterNumber="3", slaveSize="small")
    await runner.until(lambda r: r.started == 3)
    (order,) = runner.orders
    assert (order.kind, order.size, order.count, order.command) == ("slave", "small", 3, ("edge",))
    assert order.environment == {"IS_CLUSTER": "true", "MILLRACE_EDGE__CHANNEL": "c1"}
    hub.channel_changed(builders.channel(isCluster=True, clusterNumber=1))
    await runner.until(lambda r: len(r.tasks["c1", "slave"]) == 1)
    hub.end(publisher.stream.name, EndReason.PUBLISHER_GONE)
    await hub.drained()
    assert runner.stopped == [("c1", "slave", "publisher gone")]


async def test_a_channel_without_a_cluster_gets_no_edges() -> None:
    runner = Runner()
    hub, _ = live(runner, isCluster="false", clusterNumber="3")
    hub.drain()
    await hub.drained()
    assert runner.orders == []


async def test_edges_continue_when_their_gateway_is_replaced() -> None:
    runner = Runner()
    hub, _ = live(runner, isCluster=True)
    await runner.until(lambda r: r.started == 1)
    hub.drain()
    await hub.drained()
    assert runner.stopped == [] and len(runner.tasks) == 1


# ---- a ladder made elsewhere ----


def ladder(
    runner: Runner, address: str = HERE, **fields: object
) -> tuple[Hub, StreamPublisher, list[RemoteLadderOutput]]:
    made: list[RemoteLadderOutput] = []
    hub = builders.hub(linger=1.0, takeover_after=0.0)

    def make(stream: Stream) -> RemoteLadderOutput:
        ladders = load_ladders(None)
        made.append(RemoteLadderOutput(stream, hub, ladders, lambda: address, "eu-central-1", TaskSets(runner)))
        return made[-1]

    hub.add_outputs([OutputSpec("codec", make, lambda stream: stream.is_source)])
    publisher = builders.publish(hub, **{"isCodec": True, "ld": True, "sd": True} | fields)
    publisher.set_tracks(VIDEO, None, {})
    return hub, publisher, made


def rung(hub: Hub, name: str = "c1@360p") -> StreamPublisher:
    """Publishes a rendition like a task."""
    made = hub.publish_from(PushOrigin("t", "", keep_time=True), builders.channel(), name, lambda reason: None)
    made.set_tracks(VIDEO, None, {"width": 640.0, "height": 360.0})
    made.push(picture(0, True), 0.0)
    return made


async def test_a_task_gets_its_encoding_settings_without_secrets() -> None:
    runner = Runner()
    hub, _, _ = ladder(runner, codecSize="xlarge", key="4000000000-secret", codec="libx265")
    await runner.until(lambda r: r.started == 1)
    (order,) = runner.orders
    assert (order.kind, order.size, order.address) == ("codec", "xlarge", HERE)
    assert order.environment == {
        "IS_MASTER": "false",
        "IS_RECORD": "false",
        "IS_CLUSTER": "false",
        "IS_CODEC": "true",
        "IS_LD": "true",
        "IS_SD": "true",
        "IS_HD": "false",
        "IS_UD": "false",
        "CODEC": "libx265",
        "INPUT_URL": f"http://{HERE}/_node/c1?original=1",
        "LOG_LEVEL": "info",
        "REGION": "eu-central-1",
    }
    hub.drain()
    await hub.drained()


async def test_the_renditions_are_those_that_a_task_publishes() -> None:
    runner = Runner()
    hub, _, (transcoder,) = ladder(runner)
    await runner.until(lambda r: r.started == 1)
    assert transcoder.active_steps == ()
    publisher = rung(hub)
    assert [r.name for r in transcoder.active_steps] == ["360p"]
    (told,) = transcoder.report()["renditions"]
    assert (told["name"], told["width"], told["height"]) == ("c1@360p", 640, 360)
    publisher.close()
    hub.drain()
    await hub.drained()


async def test_a_rendition_of_a_dead_task_waits_for_the_next_task() -> None:
    runner = Runner()
    hub, _, _ = ladder(runner)
    hub_task = Tasks("hub")
    hub_task.start(hub.run())
    await runner.until(lambda r: r.started == 1)
    first = rung(hub)
    stream = first.stream
    first.close()
    async with asyncio.timeout(at_most(10)):
        while stream.publisher is None and stream.ended is None:
            await asyncio.sleep(0.02)
    assert hub.find("c1@360p") is stream and stream.ended is None
    second = rung(hub)  # of the next task, which takes over
    assert second.stream is stream and second.active
    await hub_task.close()
    await hub.drained()


async def test_renditions_of_tasks_end_with_their_source() -> None:
    runner = Runner()
    hub, publisher, _ = ladder(runner)
    await runner.until(lambda r: r.started == 1)
    made = rung(hub)
    hub.end("c1", EndReason.KICKED)
    await asyncio.sleep(0)
    made.close()
    await hub.drained()
    assert made.stream.ended is EndReason.KICKED
    assert publisher.stream.ended is EndReason.KICKED


async def test_no_rendition_waits_for_a_task_after_the_end_of_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task stops publishing one rendition after the other. The output then ends at once."""
    monkeypatch.setattr("gateway.outputs.ladder.remote_ladder._HOLD_POLL_SECONDS", 0.001)
    monkeypatch.setattr("gateway.outputs.ladder.remote_ladder._LAST_POLL_SECONDS", 0.001)
    runner = Runner()
    hub, publisher, (transcoder,) = ladder(runner)
    await runner.until(lambda r: r.started == 1)
    small, large = rung(hub), rung(hub, "c1@720p")
    publisher.stream.end(EndReason.PUBLISHER_GONE)
    small.close()
    await asyncio.sleep(0.02)  # many polls: nobody takes it over
    assert small.stream.publisher is None
    assert transcoder.report()["renditions"]
    large.close()
    await hub.drained()
    assert small.stream.ended is EndReason.PUBLISHER_GONE


async def test_a_gateway_without_a_known_address_starts_no_tasks() -> None:
    runner = Runner()
    hub, publisher, _ = ladder(runner, address="")
    outputs = publisher.stream.outputs
    assert outputs is not None
    async with asyncio.timeout(at_most(10)):
        while outputs.status()[0]["state"] != "retrying":
            await asyncio.sleep(0.01)
    assert runner.orders == []
    hub.drain()
    await hub.drained()
