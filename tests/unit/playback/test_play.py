"""A play: each step has its turn, and the place of its address is given back at each end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.channels.names import pull_mark
from gateway.lib.quota import Quota
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.playback.play import Play, PlayAdmission, ViewerRequest
from gateway.playback.play_hook import PlayHook
from gateway.playback.protection import PlaybackProtection
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.auth_hook import HookMode
from gateway.ports.errors import AtCapacity, NoSuchStream, NotAuthorized, OwnOutput, StoreUnavailable
from tests.support import builders
from tests.support.clock import Clock
from tests.support.playback import SECRETS, Channels

ADDRESS = "192.0.2.1"


class Service:
    """The operator's service. allows: the names that it answers."""

    def __init__(self, steps: list[str], **allows: str) -> None:
        self.steps, self.allows = steps, allows

    def asks(self, action: object) -> bool:
        return True

    async def ask(self, request: Any, *, exempt: bool = False) -> str | None:
        self.steps.append("hook")
        return self.allows.get(request.name)


class Streams:
    """The streams of a hub that note when somebody waits."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def find(self, name: str) -> Stream | None:
        return self.lab.hub.find(name)

    find_recent = find

    async def wait(self, name: str, seconds: float) -> Stream:
        self.lab.steps += [f"place {self.lab.places[ADDRESS]}", "wait"]
        return await self.lab.hub.wait(name, seconds)


class Lab:
    def __init__(self, limit: int = 1, wait: float = 0.0, hook: dict[str, str] | None = None, **fields: Any) -> None:
        self.steps, self.fields = list[str](), fields
        self.hub: Hub = builders.hub([])
        self.channels = Channels(builders.channel("c1", **fields))
        self.places, self.limits = Quota(limit), ViewerLimits(0.0, {})
        self.protection = PlaybackProtection(
            auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=5
        )
        service = Service(self.steps, **(hook or {}))
        asked = PlayHook(cast(Any, service), HookMode.BOTH, self.channels, self.id_of, {}) if hook is not None else None
        self.admission = PlayAdmission(
            channels=self.channels,
            protection=self.protection,
            wait=wait,
            limits=self.limits,
            connections=self.places,
            channel_id=self.id_of,
            hook=asked,
        )

    async def id_of(self, name: str) -> str:
        self.steps.append("name")
        return "c1" if name == "the-slug" else name

    def play(self, name: str = "c1", **changes: Any) -> Play:
        return Play(self.admission, Streams(self), ViewerRequest(name, ADDRESS, **changes))

    def live(self) -> Stream:
        publisher = builders.publish(self.hub, "c1", **self.fields)
        publisher.set_tracks(builders.VIDEO, None, {})
        publisher.push(builders.picture(0, key=True), 0.0)
        return publisher.stream


async def test_the_rights_come_before_the_hook_the_hook_before_the_place_and_the_place_before_the_wait() -> None:
    lab = Lab(hook={"c1": "c1"})
    play = lab.play("the-slug", judge=lambda name, channel: lab.steps.append(f"rights of {name}"))
    with pytest.raises(NoSuchStream):
        await play.begin()
    assert [step for step in lab.steps if step != "name"] == ["rights of c1", "hook", "place 1", "wait"]
    assert lab.steps[0] == "name" and play.waited
    assert lab.places[ADDRESS] == 0, "the place is free again"


async def test_a_viewer_without_rights_is_refused_before_anybody_is_asked() -> None:
    lab = Lab(hook={"c1": "c1"}, playAuth="sign")
    lab.live()
    with pytest.raises(NotAuthorized):
        await lab.play(sign="1-2").begin()
    assert "hook" not in lab.steps and "wait" not in lab.steps


async def test_the_place_is_kept_until_the_end_and_given_back_once() -> None:
    lab = Lab()
    stream = lab.live()
    first, second = lab.play(), lab.play()
    assert await first.begin() is stream and not first.waited
    with pytest.raises(AtCapacity):
        await second.begin()
    second.end()
    assert lab.places[ADDRESS] == 1
    first.end()
    first.end()
    assert lab.places[ADDRESS] == 0
    assert await second.begin() is stream


async def test_a_trusted_proxy_and_a_connection_that_counts_itself_need_no_place() -> None:
    lab = Lab(limit=1)
    lab.live()
    assert lab.places.take(ADDRESS)
    await lab.play(exempt=True).begin()
    await lab.play(counted=False).begin()
    await lab.play(own=1).begin()
    assert lab.places[ADDRESS] == 2, "only the last one counts, beside the connection that it replaces"


async def test_an_address_whose_plays_end_at_once_leaves_bandwidth_to_the_others() -> None:
    lab = Lab(limit=0)
    received = lab.live().received
    received.sample(0.0)
    received.bytes += 5 * 125_000
    received.sample(1.0)
    lab.limits.node_mbps, lab.limits.clock = 100.0, Clock(100.0)
    for _ in range(40):
        play = lab.play()
        await play.begin()
        play.end()
    free = lab.limits.free_mbps()
    assert free is not None and free > 15


async def test_a_viewer_that_leaves_while_it_waits_gives_its_place_back() -> None:
    lab = Lab(wait=60)
    waiting = asyncio.ensure_future(lab.play().begin())
    while "wait" not in lab.steps:
        await asyncio.sleep(0)
    assert lab.places[ADDRESS] == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert lab.places[ADDRESS] == 0


async def test_a_channel_that_has_changed_during_the_wait_is_judged_again() -> None:
    lab, judged = Lab(wait=60), []
    waiting = asyncio.ensure_future(lab.play(judge=lambda name, channel: judged.append(channel)).begin())
    while "wait" not in lab.steps:
        await asyncio.sleep(0)
    stream = lab.live()
    await waiting
    assert judged == [lab.channels.stored["c1"], stream.channel]


async def test_the_hook_may_choose_another_stream_whose_rights_are_not_asked_for() -> None:
    lab = Lab(hook={"alias": "c1"})
    lab.live()
    play = lab.play("alias", judge=lambda name, channel: lab.steps.append(name))
    await play.begin()
    assert play.name == "c1" and "c1" not in lab.steps


async def test_a_viewer_above_the_bandwidth_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    lab.live()

    def refuse(limits: ViewerLimits, stream: Stream, address: str) -> None:
        raise AtCapacity("full")

    monkeypatch.setattr(ViewerLimits, "admit", refuse)
    with pytest.raises(AtCapacity):
        await lab.play().begin()
    assert lab.places[ADDRESS] == 0


async def test_a_channel_cannot_pull_its_own_output_and_an_unavailable_store_is_reported() -> None:
    lab = Lab()
    with pytest.raises(OwnOutput):
        await lab.play("the-slug", pull_mark=pull_mark("c1")).check()
    lab.channels.away = True
    with pytest.raises(StoreUnavailable):
        await lab.play().check()
    with pytest.raises(NoSuchStream):
        await lab.play("../x").check()
