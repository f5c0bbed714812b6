"""The whole program as both ends of a relay: signed keys, sessions, switches, the policy, and a target that dies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import pull, push, take_of, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import PLAIN, judge
from tests.support.time_outs import at_most
from tests.support.tools import need

LAB = {"MILLRACE_EGRESS__ALLOW": "127.0.0.0/8", "MILLRACE_STREAM__LINGER": "1"}


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Gateway, Gateway]]:
    """Yields a gateway that relays and a gateway that is the target."""
    need("ffmpeg")
    with running(**LAB) as near, running() as far:
        yield near, far


def relay(channel: Channel) -> dict[str, Any]:
    """Returns the relay's entry in the channel's session."""
    return next(o for o in channel.session()["outputs"] if o["name"] == "relay")


def target(channel: Channel, number: int = 0) -> dict[str, Any]:
    targets = relay(channel).get("targets", [])
    return dict(targets[number]) if len(targets) > number else {"state": "", "error": None}


def reaches(
    channel: Channel, state: str, number: int = 0, also: Callable[[dict[str, Any]], bool] = lambda t: True
) -> dict[str, Any]:
    """Returns the target's report once it is in this state."""

    def there() -> dict[str, Any] | None:
        found = target(channel, number)
        return found if found["state"] == state and also(found) else None

    return dict(until(there, f"the relay's target is {state}"))


def test_a_second_gateway_gets_every_frame_with_its_signed_key(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    there = far.channel("there")
    here = near.channel("here", isRelay=True, relayURL=there.push)
    assert there.key not in str(near.api("GET", f"/videostream/{here.id}").json()["relayURL"])
    with push(PLAIN, here.push):
        here.wait_live()
        there.wait_live()
        with pull(there.url("live.flv"), seconds=4) as player:
            take = take_of(player)
        report = reaches(here, "live", also=lambda t: t["sent"] > 100_000)
        assert report["error"] is None and there.key not in str(here.session())
    judge(take, PLAIN, least=3)
    until(lambda: there.session()["state"] != "live", "the end was passed on")


def test_a_wrong_key_is_refused_and_reported_but_never_shown(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    there = far.channel("there")
    wrong = f"rtmp://127.0.0.1:{far.ports['rtmp']}/stream/{there.id}?sign={there.key[:-4]}beef"
    here = near.channel("here", isRelay=True, relayURL=[wrong])
    with push(PLAIN, here.push):
        here.wait_live()
        report = reaches(here, "retrying")
        assert report["error"].startswith("refused: NetStream.Publish.Unauthorized")
        assert "does not take the stream" in relay(here)["error"]
        for secret in (f"{there.key[11:-4]}beef", there.key[11:30]):
            assert secret not in str(here.session()) and secret not in near.log
        here.wait_playable("live.m3u8")


def test_targets_can_change_and_the_relay_can_be_switched_while_live(gateways: tuple[Gateway, Gateway]) -> None:
    near, far = gateways
    one, two = far.channel("one"), far.channel("two")
    here = near.channel("here", relayURL=one.push)
    with push(PLAIN, here.push):
        here.wait_live()
        assert relay(here)["state"] == "off"
        assert near.api("POST", f"/videostream/{here.id}/outputs/relay", {"enabled": True}).status == 200
        one.wait_live()
        shown = near.api("GET", f"/videostream/{here.id}").json()["relayURL"]
        assert near.api("PUT", f"/videostream/{here.id}", {"relayURL": f"{shown},{two.push}"}).status == 200
        two.wait_live()
        since = one.session()["since"]
        assert near.api("PUT", f"/videostream/{here.id}", {"relayURL": two.push}).status == 200
        until(lambda: one.session()["state"] != "live", "a removed target ends")
        assert one.session()["since"] in (since, None) and two.session()["state"] == "live"
        assert near.api("POST", f"/videostream/{here.id}/outputs/relay", {"enabled": False}).status == 200
        until(lambda: two.session()["state"] != "live", "a relay that was switched off ends")


def test_by_default_a_relay_to_this_machine_is_refused(gateways: tuple[Gateway, Gateway]) -> None:
    _, far = gateways
    here = far.channel("here", isRelay=True, relayURL="rtmp://127.0.0.1:1935/stream/secret-of-mine")
    with push(PLAIN, here.push):
        here.wait_live()
        assert "127.0.0.1 is a loopback address" in reaches(here, "failed")["error"]


@pytest.mark.nightly
def test_a_target_that_dies_and_returns_does_not_affect_viewers(
    gateways: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    near, _ = gateways
    with contextlib.ExitStack() as stack:
        mortal = started(stack, tmp_path / "mortal")
        there = mortal.channel("there")
        here = near.channel("here", isRelay=True, relayURL=there.push)
        stack.enter_context(push(PLAIN, here.push))
        here.wait_live()
        there.wait_live()
        viewer = stack.enter_context(pull(here.url("live.flv"), seconds=12))
        mortal.process.kill()
        mortal.process.wait(at_most(10))
        reaches(here, "retrying")
        (mortal.data / "ports.json").unlink()
        again = started(stack, tmp_path / "again", mortal)
        reaches(here, "live")
        player = stack.enter_context(pull(Channel(again, there.item).url("live.flv"), seconds=2))
        judge(take_of(player), PLAIN, least=1.5)
        judge(take_of(viewer), PLAIN, least=11)


def started(stack: contextlib.ExitStack, folder: Path, like: Gateway | None = None) -> Gateway:
    """Starts a gateway that may die. It takes over the data and the RTMP port of `like`."""
    folder.mkdir()
    settings = {} if like is None else {"MILLRACE_DATA": str(like.data), "MILLRACE_RTMP__PORT": str(like.ports["rtmp"])}
    gateway = Gateway(folder, **settings)
    stack.callback(gateway.stop, 20)
    gateway.data = gateway.data if like is None else like.data
    gateway.wait_ready()
    return gateway
