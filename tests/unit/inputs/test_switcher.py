"""The switcher of a channel with real hubs: pushes, sources, and the resulting stream."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.channels.stores import ChannelReader
from gateway.inputs import channel_input, channel_inputs, switcher
from gateway.inputs.channel_input import InputState
from gateway.inputs.channel_inputs import ChannelInputs, Claim
from gateway.inputs.descriptor import InputContext, InputDescriptor, InputSource
from gateway.live.hub import Hub
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream, StreamState
from gateway.live.unit_intake import UnitIntake
from gateway.ports.errors import BitRateTooHigh, NameInUse, NoSuchStream, NotAuthorized, OutputError, StoreUnavailable
from gateway.ports.events import Event, Events, EventType
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, Recorder, picture
from tests.support.playback import Channels
from tests.support.simulated_time import simulate_time
from tests.support.time_outs import at_most

PUSH = {"name": "main", "kind": "push"}
BACKUP = {"name": "van", "kind": "backup"}
SLATE = {"name": "slate", "kind": "slate"}


class Slate(InputSource):
    """A source that is ready at once and sends a key frame each 20 ms while it is on air."""

    is_ready = True
    is_between_items = False

    def __init__(self) -> None:
        self.error = ""
        self.starts = 0

    async def run(self, context: InputContext) -> None:
        self.starts += 1
        if self.error:
            raise OutputError(self.error)
        while True:
            await context.until_on_air()
            publisher = context.publish()
            publisher.set_tracks(VIDEO, AUDIO, {})
            while context.on_air:
                publisher.push(picture(round(time.monotonic() * 1000) % 10**9, key=True), time.monotonic())
                await asyncio.sleep(0.02)
            publisher.close()


class Studio:
    """A hub with inputs, and the events that it emitted."""

    def __init__(self, hub: Hub, inputs: ChannelInputs, sources: tuple[Slate, Slate], events: list[Event]) -> None:
        self.hub = hub
        self.inputs = inputs
        self.slate, self.playlist = sources
        self.events = events
        self.evicted: list[EndReason] = []

    def push(self, channel: Channel, name: str = "", peer: str = "192.0.2.1") -> StreamPublisher:
        origin = PushOrigin("rtmp", peer)
        return self.hub.publish_source(channel, origin, self.evicted.append, name, 0)

    def hidden(self, name: str) -> object:
        """The hidden stream of an input, or what is in its place."""
        switches = self.inputs.switcher_of("c1")
        return None if switches is None else switches.origin_of(name)

    def on_air(self) -> str | None:
        """The name of the input on air."""
        states = self.inputs.states("c1") if self.inputs.holds("c1") else {}
        return next((name for name, (state, _) in states.items() if state is InputState.ON_AIR), None)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(at_most(10)):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_on_air(self, name: str | None) -> None:
        await self.until(lambda: self.on_air() == name)

    def switches(self) -> list[tuple[Any, Any, Any]]:
        return [
            (e.data["from"], e.data["to"], e.data["reason"]) for e in self.events if e.type is EventType.INPUT_SWITCHED
        ]

    def state(self, name: str) -> InputState:
        return self.inputs.states("c1")[name][0]


@asynccontextmanager
async def studio(
    monkeypatch: pytest.MonkeyPatch,
    channels: ChannelReader | None = None,
    claim: Claim | None = None,
    **settings: float,
) -> AsyncIterator[Studio]:
    simulate_time(monkeypatch)
    sources = {InputKind.SLATE: Slate(), InputKind.PLAYLIST: Slate()}
    descriptors = {
        kind: InputDescriptor(kind=kind, make=lambda services, spec: sources[spec.kind], on_demand=True)
        for kind in sources
    }
    monkeypatch.setattr(channel_inputs, "all_inputs", lambda: descriptors)
    monkeypatch.setattr(channel_inputs, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(switcher, "STEADY_SECONDS", settings.pop("steady", 0.1))
    events, seen = Events(), cast(list[Event], [])
    events.listen(seen.append)
    hub = builders.hub(events=events, linger=settings.pop("linger", 10))
    inputs = ChannelInputs(
        hub,
        builders.inputs_settings(**settings),
        cast(Any, None),
        lambda stream: sum(stream.viewers.values()),
        channels or Channels(),
        claim,
    )
    running = [asyncio.ensure_future(inputs.run()), asyncio.ensure_future(hub.run())]
    try:
        yield Studio(hub, inputs, (sources[InputKind.SLATE], sources[InputKind.PLAYLIST]), seen)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        hub.drain()
        await hub.drained()


def channel(*specs: dict[str, Any], **fields: Any) -> Channel:
    return builders.channel("c1", inputs=list(specs), **fields)


def send(publisher: StreamPublisher, dts: int = 0) -> None:
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(dts, key=True), time.monotonic())


async def keep_sending(publisher: StreamPublisher, dts: int = 1_000) -> None:
    """Sends a key frame each 20 ms, with times after those of `send`."""
    publisher.set_tracks(VIDEO, AUDIO, {})
    while publisher.active:
        publisher.push(picture(dts, key=True), time.monotonic())
        dts += 20
        await asyncio.sleep(0.02)


async def test_a_channel_without_inputs_publishes_straight_into_its_stream(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        publisher = one.push(builders.channel("c1"))
        assert publisher.stream is one.hub.held("c1")
        assert not one.inputs.holds("c1")
        publisher.close()


async def test_a_backup_follows_a_lost_push_at_once_and_the_push_returns(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main, van = one.push(channel(PUSH, BACKUP)), one.push(channel(PUSH, BACKUP), "van", "192.0.2.2")
        send(main)
        send(van)
        stream = one.hub.find("c1")
        assert stream is not None
        recorder = Recorder()
        stream.attach(recorder)
        assert (one.on_air(), stream.input.name) == ("main", "main")
        assert one.state("van") is InputState.READY
        main.close()
        assert one.on_air() == "van", "in the same turn of the loop"
        publisher = stream.publisher
        assert publisher is not None and publisher.on_air.peer == "192.0.2.2"
        again = one.push(channel(PUSH, BACKUP))
        sending = asyncio.ensure_future(keep_sending(again)), asyncio.ensure_future(keep_sending(van))
        await one.until_on_air("main")
        assert one.switches() == [("main", "van", "ended"), ("van", "main", "better")]
        assert len(recorder.tracks) == 1, "equal tracks: nothing is announced"
        times = [unit.dts for unit in recorder.units]
        assert times == sorted(set(times))
        again.close()
        van.close()
        await asyncio.gather(*sending)
        assert stream.state is StreamState.LINGERING
        assert recorder.ended is None


async def test_a_silent_push_is_left_and_returns(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, SLATE))
        send(main)
        await one.until_on_air("slate")
        assert one.switches() == [("main", "slate", "silent")]
        sending = asyncio.ensure_future(keep_sending(main))
        await one.until_on_air("main")
        main.close()
        await sending


async def test_a_push_of_few_pictures_without_sound_stays_on_air(monkeypatch: pytest.MonkeyPatch):
    """A camera of one picture a second, or a shared screen that stands still, beside a slate."""
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, SLATE))
        main.set_tracks(VIDEO, None, {})
        for number in range(6):
            main.push(picture(number * 300, key=number % 2 == 0), time.monotonic())
            await asyncio.sleep(0.3)  # longer than inputs.silence
        assert (one.on_air(), one.switches()) == ("main", [])
        await one.until_on_air("slate")
        assert one.switches() == [("main", "slate", "silent")]
        main.close()


async def test_a_push_without_sound_that_becomes_slow_returns_and_stays(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, SLATE))
        main.set_tracks(VIDEO, None, {})
        for number in range(14):
            main.push(picture(number * 300, key=True), time.monotonic())
            await asyncio.sleep(0.02 if number < 5 else 0.3)
        assert one.switches() == [("main", "slate", "silent"), ("slate", "main", "better")]
        main.close()


async def test_a_push_that_pauses_stays_on_air_if_nothing_else_delivers(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, BACKUP))
        send(main)
        stream = one.hub.find("c1")
        assert stream is not None
        recorder = Recorder()
        stream.attach(recorder, SinkNeeds(cache=False))
        await asyncio.sleep(0.4)  # longer than inputs.silence
        main.push(picture(440), time.monotonic())
        assert [unit.dts for unit in recorder.units] == [440], "it needs no key frame"
        assert one.on_air() == "main"
        van = one.push(channel(PUSH, BACKUP), "van")
        await asyncio.sleep(0.4)
        send(van)
        await one.until_on_air("van")
        main.close()
        van.close()


async def test_a_slate_is_on_air_only_after_a_push_was(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, SLATE))
        await one.until(lambda: one.slate.starts and one.state("slate") is InputState.READY)
        assert one.on_air() is None
        send(main)
        assert one.on_air() == "main"
        main.close()
        assert one.on_air() == "slate"


async def test_a_slate_ends_after_the_time_of_the_settings(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch, hold=0.2) as one:
        main = one.push(channel(PUSH, SLATE))
        send(main)
        await one.until(lambda: one.state("slate") is InputState.READY)
        main.close()
        assert one.on_air() == "slate"
        await one.until(lambda: not one.inputs.holds("c1"))
        stream = one.hub.find("c1")
        assert stream is not None and stream.state is StreamState.LINGERING


async def test_an_input_that_is_always_on_air_needs_no_push(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch, hold=0.05) as one:
        one.hub.channel_changed(channel(PUSH, {**SLATE, "always": True}))
        await one.until_on_air("slate")
        await one.until(lambda: one.hub.find("c1") is not None)
        main = one.push(channel(PUSH, {**SLATE, "always": True}))
        sending = asyncio.ensure_future(keep_sending(main))
        await one.until_on_air("main")
        main.close()
        await sending
        assert one.on_air() == "slate"
        assert one.hub.end("c1", EndReason.KICKED)
        await one.until(lambda: not one.inputs.holds("c1"))


async def test_a_waiting_viewer_starts_a_pull_also_for_a_rendition(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    class Store:
        async def get(self, id: str) -> Channel:
            asked.append(id)
            if len(asked) == 1:
                raise StoreUnavailable("away", 1)
            return channel(PUSH, {"kind": "pull", "name": "camera", "url": "rtsp://192.0.2.1/live"})

    claimed: list[str] = []

    async def claim(channel: Channel, begin: object) -> bool:
        claimed.append(channel.id)
        return False

    async with studio(monkeypatch, Store(), claim) as one:
        for name in ("c1", "c1@720p"):
            with pytest.raises(NoSuchStream):
                await one.hub.wait(name, 0.1)
        await one.until(lambda: claimed)
        assert (asked, claimed) == (["c1", "c1"], ["c1"])


async def test_a_waiting_viewer_starts_no_pull_of_a_channel_whose_key_has_expired(monkeypatch: pytest.MonkeyPatch):
    pull = {"kind": "pull", "name": "camera", "url": "rtsp://192.0.2.1/live"}
    store = Channels(channel(PUSH, pull, key=f"{1_000_000_000}-{'0' * 64}"))
    claimed: list[str] = []

    async def claim(channel: Channel, begin: object) -> bool:
        claimed.append(channel.id)
        return False

    async with studio(monkeypatch, store, claim) as one:
        with pytest.raises(NoSuchStream):
            await one.hub.wait("c1", 0.2)
        assert claimed == []


async def test_a_slate_on_air_outlives_the_date_of_the_key(monkeypatch: pytest.MonkeyPatch):
    always = {**SLATE, "always": True}
    async with studio(monkeypatch) as one:
        one.hub.channel_changed(channel(PUSH, always))
        await one.until_on_air("slate")
        one.hub.channel_changed(channel(PUSH, always, key=f"{1_000_000_000}-{'0' * 64}"))
        runs = one.inputs.switcher_of("c1")
        assert runs is not None
        runs.tick(time.monotonic())
        assert one.on_air() == "slate" and not runs.is_idle


async def test_a_retired_process_gives_up_channels_without_a_push(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        one.hub.channel_changed(channel(PUSH, {**SLATE, "always": True}))
        await one.until_on_air("slate")
        one.hub.retire()
        one.inputs.retire()
        await one.until(lambda: not one.inputs.holds("c1"))
        assert one.hub.held("c1") is None
        one.hub.channel_changed(channel(PUSH, {**SLATE, "always": True}))
        await asyncio.sleep(0.1)
        assert not one.inputs.holds("c1")


async def test_inputs_added_during_a_push_change_nothing_in_a_retired_process(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(builders.channel("c1"))
        one.inputs.retire()
        one.hub.channel_changed(channel(PUSH, SLATE))
        assert main.active and not one.inputs.holds("c1")


async def test_inputs_added_during_a_push_take_the_push_over(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(builders.channel("c1"))
        send(main, 1000)
        stream = one.hub.find("c1")
        assert stream is not None
        recorder = Recorder()
        stream.attach(recorder, SinkNeeds(cache=False))
        one.hub.channel_changed(channel(PUSH, SLATE))
        main.push(picture(1040), time.monotonic())
        assert [unit.dts for unit in recorder.units] == [1040]
        assert one.on_air() == "main"
        with pytest.raises(NameInUse):
            one.push(channel(PUSH, SLATE))
        await one.until(lambda: one.state("slate") is InputState.READY)
        main.close()
        assert one.on_air() == "slate"
        await one.until(lambda: len(recorder.units) > 3)
        assert len(recorder.tracks) == 1
        ended = [e.data for e in one.events if e.type is EventType.PUBLISH_ENDED]
        assert [(data["stream"], data["input"]) for data in ended] == [("c1", "main")]


async def test_the_session_shows_the_encoder_that_took_an_input_over(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        first = one.push(channel(PUSH, BACKUP))
        send(first)
        first.last_media = -math.inf
        second = one.push(channel(PUSH, BACKUP), peer="192.0.2.2")
        assert one.evicted == [EndReason.PUBLISHER_GONE]
        stream = one.hub.find("c1")
        assert stream is not None
        shown = stream.publisher
        assert shown is not None and shown.on_air is second.on_air
        assert (second.on_air.protocol, second.on_air.peer) == ("rtmp", "192.0.2.2")
        intake = UnitIntake(second)
        assert shown.on_air.timeline is intake.timeline, "otherwise jumps of its times would be no fault"
        second.close()


async def test_the_session_shows_the_media_that_a_source_leaves_out(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        one.hub.channel_changed(channel(PUSH, {**SLATE, "always": True}))
        await one.until(lambda: one.on_air() and isinstance(one.hidden("slate"), Stream))
        hidden, stream = one.hidden("slate"), one.hub.find("c1")
        assert isinstance(hidden, Stream) and stream is not None
        source, shown = hidden.publisher, stream.publisher
        assert isinstance(source, StreamPublisher) and isinstance(shown, StreamPublisher)
        assert shown.unusable is source.unusable


async def test_a_kick_ends_all_pushes(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main, van = one.push(channel(PUSH, BACKUP)), one.push(channel(PUSH, BACKUP), "van")
        send(main)
        assert one.hub.end("c1", EndReason.KICKED)
        assert one.evicted == [EndReason.KICKED] * 2
        assert not main.active and not van.active
        send(one.push(channel(PUSH, BACKUP)))
        assert one.on_air() == "main", "the key is still valid"


async def test_an_input_is_selected_manually_and_released_again(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main, van = one.push(channel(PUSH, BACKUP)), one.push(channel(PUSH, BACKUP), "van")
        sending = asyncio.ensure_future(keep_sending(main)), asyncio.ensure_future(keep_sending(van))
        await one.until(lambda: one.inputs.states("c1").get("van", (None,))[0] is InputState.READY)
        one.inputs.take("c1", "van")
        assert (one.on_air(), one.inputs.taken("c1")) == ("van", "van")
        await asyncio.sleep(0.3)
        assert one.on_air() == "van"
        one.inputs.take("c1", None)
        await one.until_on_air("main")
        with pytest.raises(KeyError):
            one.inputs.take("c1", "nobody")
        van.close()
        with pytest.raises(NoSuchStream):
            one.inputs.take("c1", "van")
        assert one.inputs.taken("c1") is None
        main.close()
        await asyncio.gather(*sending)


@pytest.mark.parametrize("kind", ["slate", "playlist"])
async def test_a_choice_by_hand_ends_when_another_input_replaces_the_taken_one(
    monkeypatch: pytest.MonkeyPatch, kind: str
):
    inputs = channel(PUSH, BACKUP, {"name": "after", "kind": kind, "items": ["a.mp4"], "always": True})
    async with studio(monkeypatch) as one:
        van = one.push(inputs, "van")
        send(van)
        await one.until(lambda: one.state("after") is InputState.READY)
        one.inputs.take("c1", "van")
        van.close()
        assert (one.on_air(), one.inputs.taken("c1")) == ("after", None)
        main = one.push(inputs)
        sending = asyncio.ensure_future(keep_sending(main))
        await one.until_on_air("main")
        main.close()
        await sending


async def test_a_choice_by_hand_goes_on_while_nothing_replaces_the_taken_input(monkeypatch: pytest.MonkeyPatch):
    inputs = channel(PUSH, BACKUP)
    async with studio(monkeypatch, silence=60) as one:
        main, van = one.push(inputs), one.push(inputs, "van")
        send(van)
        one.inputs.take("c1", "van")
        sending = asyncio.ensure_future(keep_sending(main))
        await one.until(lambda: main.stream.received.last_dts_ms > 1_400)
        assert (one.on_air(), one.inputs.taken("c1")) == ("van", "van"), "it pauses for less than `silence`"
        main.close()
        await sending
        van.close()
        main, van = one.push(inputs), one.push(inputs, "van")
        send(van)
        send(main)
        assert (one.on_air(), one.inputs.taken("c1")) == ("van", "van"), "it came back before another one"
        main.close()
        van.close()


async def test_inputs_that_take_no_pushes_refuse_them(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        for name in ("slate", "nobody"):
            with pytest.raises(NotAuthorized):
                one.push(channel(PUSH, SLATE), name)
        await one.until(lambda: not one.inputs.holds("c1"))
        assert one.hub.held("c1") is None


async def test_a_source_that_fails_says_why_and_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        one.slate.error = "the picture cannot be fetched"
        main = one.push(channel(PUSH, SLATE))
        send(main)
        await one.until(lambda: one.state("slate") is InputState.FAILED)
        assert one.inputs.states("c1")["slate"][1] == "the picture cannot be fetched"
        main.close()
        assert one.on_air() is None
        one.slate.error = ""
        await one.until_on_air("slate")


async def test_a_changed_list_applies_while_live(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main = one.push(channel(PUSH, SLATE))
        send(main)
        main.close()
        await one.until_on_air("slate")
        van = one.push(channel(PUSH, SLATE), "main")
        one.hub.channel_changed(channel(PUSH, BACKUP))
        assert one.on_air() is None
        sending = asyncio.ensure_future(keep_sending(van))
        await one.until_on_air("main")
        van.close()
        await sending


@pytest.mark.parametrize("changed", [[], [{**BACKUP, "name": "car"}], [{**SLATE, "name": "van"}]])
async def test_the_choice_is_automatic_after_an_input_taken_by_hand_was_removed_or_edited(
    monkeypatch: pytest.MonkeyPatch, changed: list[dict[str, Any]]
):
    async with studio(monkeypatch) as one:
        main, van = one.push(channel(PUSH, BACKUP)), one.push(channel(PUSH, BACKUP), "van")
        send(main)
        send(van)
        one.inputs.take("c1", "van")
        one.hub.channel_changed(channel(PUSH, *changed))
        assert (one.on_air(), one.inputs.taken("c1")) == ("main", None)
        assert not van.active
        main.close()


async def test_the_inputs_of_other_channels_go_on_after_a_fault_of_one(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        main, other = one.push(channel(PUSH, SLATE)), one.push(builders.channel("c2", inputs=[PUSH, SLATE]))
        broken, fine = one.inputs.switcher_of("c1"), one.inputs.switcher_of("c2")
        assert broken is not None and fine is not None
        ticked = asyncio.Event()

        def fail(now: float) -> None:
            raise ValueError("broken")

        with capture_logs() as logs:
            monkeypatch.setattr(broken, "tick", fail)
            monkeypatch.setattr(fine, "tick", lambda now: ticked.set())
            async with asyncio.timeout(at_most(10)):
                await ticked.wait()
        assert {entry["stream"] for entry in logs if entry["log_level"] == "error"} == {"c1"}
        main.close()
        other.close()


async def test_a_push_without_key_frames_says_so_and_the_slate_stays_on_air(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(channel_input, "KEY_FRAME_SECONDS", 0.1)
    async with studio(monkeypatch) as one:
        one.hub.channel_changed(channel(PUSH, {**SLATE, "always": True}))
        await one.until_on_air("slate")
        main = one.push(channel(PUSH, {**SLATE, "always": True}))
        main.set_tracks(VIDEO, AUDIO, {})
        for dts in range(0, 10_000, 20):
            main.push(picture(dts, key=False), time.monotonic())
            await asyncio.sleep(0.005)
            if one.state("main") is InputState.FAILED:
                break
        assert one.inputs.states("c1")["main"] == (InputState.FAILED, "no key frame for 0 s")
        assert one.on_air() == "slate"
        main.close()


async def test_a_playlist_that_can_play_again_replaces_a_later_input_at_once(monkeypatch: pytest.MonkeyPatch):
    tv, other = {"name": "tv", "kind": "playlist", "items": ["a.mp4"]}, {**SLATE, "always": True}
    async with studio(monkeypatch, steady=60) as one:
        one.playlist.is_ready = False
        main = one.push(channel(PUSH, tv, other))
        send(main)
        await one.until(lambda: one.state("slate") is InputState.READY)
        main.close()
        assert one.on_air() == "slate"
        assert one.state("tv") is InputState.CONNECTING
        one.playlist.is_between_items = True
        assert one.state("tv") is InputState.OFF
        one.playlist.is_ready = True
        await one.until_on_air("tv")
        one.slate.is_ready = False
        main = one.push(channel(PUSH, tv, other))
        main.close()
        assert one.on_air() == "tv"


async def test_both_inputs_flapping_switch_at_most_about_once_a_second(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch, silence=0.03, steady=0.0) as one:
        main, van = one.push(channel(PUSH, BACKUP)), one.push(channel(PUSH, BACKUP), "van")
        for publisher in (main, van):
            publisher.set_tracks(VIDEO, AUDIO, {})
        end, dts = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            for publisher in (main, van):
                dts += 40
                publisher.push(picture(dts, key=True), time.monotonic())
                await asyncio.sleep(0.05)
        assert len(one.switches()) <= 8
        main.close()
        van.close()


def sample_seconds(one: Studio, stream: Stream, send: Callable[[int], None]) -> None:
    """Lets twelve seconds pass, in which a stream gets media. The hub of the inputs is first each time."""
    now = time.monotonic()
    for second in range(12):
        if stream.publisher is not None:
            send(second)
        one.inputs._hidden.sample(now + second, 0.0)
        one.hub.sample(now + second, 0.0)


async def test_a_source_and_a_push_off_air_have_no_bit_rate_limit(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        limited = channel(PUSH, BACKUP, SLATE, maxKbps=1000)
        main, van = one.push(limited), one.push(limited, "van")
        send(main)
        sample_seconds(one, van.stream, lambda second: van.push(picture(second * 1000, size=500_000), 0.0))
        assert van.active and main.active
        van.close()
        main.close()
        await one.until(lambda: isinstance(one.hidden("slate"), Stream))
        hidden = one.hidden("slate")
        assert isinstance(hidden, Stream)

        def receive(second: int) -> None:
            hidden.received.bytes += 500_000

        sample_seconds(one, hidden, receive)
        assert one.on_air() == "slate" and hidden.publisher is not None


async def test_a_push_on_air_that_is_too_fast_ends_and_its_channel_takes_none_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
):
    async with studio(monkeypatch) as one:
        limited = channel(PUSH, SLATE, maxKbps=1000)
        main = one.push(limited)
        send(main)
        await one.until(lambda: one.state("slate") is InputState.READY)
        sample_seconds(
            one, main.stream, lambda second: main.push(picture(second * 1000, key=True, size=500_000), time.monotonic())
        )
        assert one.evicted == [EndReason.BIT_RATE]
        with pytest.raises(BitRateTooHigh):
            one.hub.check_bit_rate(limited)


THIN = {**PUSH, "below": {"kbps": 500, "seconds": 1}}


async def send_bytes(publisher: StreamPublisher, kbps: dict[str, int], dts: int = 1_000) -> None:
    """Sends a key frame each 20 ms, at a bit rate that the test changes."""
    publisher.set_tracks(VIDEO, AUDIO, {})
    while publisher.active:
        unit = picture(dts, key=True)
        unit.payload = bytes(kbps["now"] * 125 // 50)
        publisher.push(unit, time.monotonic())
        dts += 20
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("other", "name"), [(SLATE, "slate"), (BACKUP, "van")])
async def test_a_thin_push_is_left_and_returns_when_it_is_steady(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], name: str
):
    async with studio(monkeypatch) as one:
        main, rate = one.push(channel(THIN, other)), {"now": 2_000}
        sending = [asyncio.ensure_future(send_bytes(main, rate))]
        if other is BACKUP:
            van = one.push(channel(THIN, other), "van")
            sending.append(asyncio.ensure_future(keep_sending(van)))
        await one.until_on_air("main")
        rate["now"] = 100
        await one.until_on_air(name)
        await one.until(lambda: one.state("main") is InputState.READY)
        error = one.inputs.states("c1")["main"][1]
        assert error is not None
        assert "of at least 500 kbit/s" in error
        stream = one.hub.find("c1")
        assert stream is not None
        await one.until(lambda: stream.input.lost_since)
        assert stream.input.least_kbps == 500
        began, rate["now"] = time.monotonic(), 2_000
        await one.until_on_air("main")
        assert time.monotonic() - began >= 1 - channel_inputs.TICK_SECONDS, "it is judged at each tick"
        assert one.switches()[0] == ("main", name, "thin")
        await one.until(lambda: stream.input.lost_since is None)
        for publisher in (main, *([van] if other is BACKUP else [])):
            publisher.close()
        await asyncio.gather(*sending)


async def test_a_thin_push_stays_if_nothing_else_delivers_or_it_is_taken_by_hand(monkeypatch: pytest.MonkeyPatch):
    async with studio(monkeypatch) as one:
        alone = channel(THIN)
        main, rate = one.push(alone), {"now": 50}
        sending = asyncio.ensure_future(send_bytes(main, rate))
        await one.until(lambda: one.inputs.states("c1")["main"][1])
        assert one.on_air() == "main"
        one.hub.channel_changed(channel(THIN, SLATE))
        await one.until_on_air("slate")
        one.inputs.take("c1", "main")
        await one.until_on_air("main")
        stream = one.hub.find("c1")
        assert stream is not None
        seen = stream.received.bytes
        await one.until(lambda: stream.received.bytes > seen + 2_000)
        assert one.on_air() == "main"
        one.inputs.take("c1", None)
        await one.until_on_air("slate")
        one.hub.channel_changed(channel(PUSH, SLATE))
        await one.until_on_air("main")
        assert main.active, "the rule changes without an end of the push"
        main.close()
        await sending
