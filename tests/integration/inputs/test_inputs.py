"""Two encoders push to one channel: if one breaks off, the other follows, and every player continues."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.flv.tag import TrackStart
from gateway.media.track import AccessUnit, Codec, Kind
from tests.support import command_line
from tests.support.clients import Program, new_ffmpeg, pull, push, so_far, take_of, until
from tests.support.fleet import sharing
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.gateway import Channel, Gateway, http
from tests.support.hls_rules import changes_of_media
from tests.support.media import PLAIN, Film, Frame, framehash_command
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = PLAIN
LIST = [{"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}]
_AV_MS = 20


gateway = shared_gateway()


def stored(channel: Channel, inputs: list[dict[str, Any]] = LIST) -> dict[str, dict[str, Any]]:
    """Stores the list of inputs. Returns the inputs by name."""
    reply = channel.gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs)
    assert reply.status == 200, reply.text
    return {entry["name"]: entry for entry in reply.json()}


def inputs_of(channel: Channel) -> dict[str, dict[str, Any]]:
    reply = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs")
    return {entry["name"]: entry for entry in reply.json()}


def until_state(channel: Channel, name: str, state: str) -> None:
    until(lambda: inputs_of(channel)[name]["state"] == state, f"{name} is {state}", 20)


def play(url: str, seconds: float) -> Program:
    """ffmpeg playing an address, with the exact times of the pictures: not rounded to a frame rate."""
    command = framehash_command(url, seconds=seconds)
    return Program([*command[:-1], "-enc_time_base", "-1", command[-1]])


def shifts(seen: list[Frame], source: list[Frame]) -> list[float]:
    """Returns the delay of each shown frame against the film, in milliseconds, without inserted silence."""
    times = {frame.digest: frame.time for frame in source}
    return [(frame.time - times[frame.digest]) * 1000 for frame in seen if frame.digest in times]


def test_a_backup_replaces_the_push_in_every_format_until_the_push_returns(gateway: Gateway) -> None:
    channel = gateway.channel(isFlv=True, isHls=True, isCMAF=True)
    van_url = stored(channel)["van"]["pushUrl"]
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(push(FILM, channel.push))
        until_state(channel, "main", "on air")
        stack.enter_context(push(FILM, van_url))
        until_state(channel, "van", "ready")
        channel.wait_playable("live.m3u8")
        players = {
            "flv": stack.enter_context(play(channel.url("live.flv"), 9)),
            "rtmp": stack.enter_context(play(channel.rtmp, 9)),
            "hls": stack.enter_context(play(channel.url("live.m3u8"), 9)),
        }
        until(lambda: len(so_far(players["flv"]).video) > 20, "a player plays")
        main.kill()
        until_state(channel, "van", "on air")
        assert channel.session()["input"] == "van"
        again = stack.enter_context(push(FILM, channel.push))
        until_state(channel, "main", "on air")
        assert not changes_of_media(http("GET", channel.url("live.m3u8")).text)
        source = FILM.hashes()
        for name, player in players.items():
            take = take_of(player)
            for frames in (take.video, take.audio):
                times = [frame.time for frame in frames]
                assert times == sorted(times), name
                assert max(b - a for a, b in itertools.pairwise(times)) <= 1.0, name
            assert again.running
            begins, sounds = shifts(take.video, source.video), shifts(take.audio, source.audio)
            assert abs(begins[0] - sounds[0]) <= _AV_MS, name
            assert abs(begins[-1] - sounds[-1]) <= _AV_MS, name
            assert abs(begins[-1] - begins[0]) > 1000, f"{name} saw another push"


def test_a_backup_with_another_codec_is_announced(gateway: Gateway) -> None:
    channel = gateway.channel(isFlv=True, isHls=True, isCMAF=False)
    van_url = stored(channel)["van"]["pushUrl"]
    other = Film("inputs-hevc", seconds=8, video="libx265", container="mp4", gop=30)
    reader, codecs, times = FlvFileDemuxer(), list[Codec](), list[int]()
    with push(FILM, channel.push) as main, push(other, van_url, ffmpeg=new_ffmpeg(), loop=True):
        until_state(channel, "main", "on air")
        until_state(channel, "van", "ready")
        channel.wait_playable("live.m3u8")
        with urllib.request.urlopen(channel.url("live.flv"), timeout=at_most(30)) as viewer:
            while codecs.count(Codec.H265) <= 30:
                for event in reader.receive(viewer.read1(65_536)):
                    unit = event.unit if isinstance(event, TrackStart) else event
                    if isinstance(unit, AccessUnit) and unit.track.kind is Kind.VIDEO:
                        codecs.append(unit.track.codec)
                        times.append(unit.dts)
                if len(times) > 30 and main.running:
                    main.kill()
        until(lambda: "#EXT-X-DISCONTINUITY\n" in http("GET", channel.url("live.m3u8")).text, "HLS announces it")
    changes = [(a, b) for a, b in itertools.pairwise(codecs) if a is not b]
    assert changes == [(Codec.H264, Codec.H265)]
    assert times == sorted(set(times))


def test_the_key_of_a_backup_pushes_to_its_input_only(gateway: Gateway) -> None:
    channel = gateway.channel()
    van_url = stored(channel)["van"]["pushUrl"]
    for url in (
        van_url.replace("&input=van", ""),
        van_url.replace("input=van", "input=main"),
        f"{channel.push}&input=van",
    ):
        with push(FILM, url) as refused:
            refused.wait(20)
    reasons = {refusal["reason"] for refusal in channel.session()["refusals"]}
    assert reasons == {"wrong"}
    with push(FILM, f"{channel.push}&input=main"):
        until_state(channel, "main", "on air")
    before = gateway.api("GET", f"/videostream/{channel.id}").json()["key"]
    assert gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": "2034-01-01"}).json()["key"] != before
    with push(FILM, van_url) as refused:
        refused.wait(20)
    assert channel.session()["refusals"][0]["reason"] == "revoked"


def test_inputs_can_be_taken_by_hand_and_switches_are_listed(gateway: Gateway) -> None:
    channel = gateway.channel()
    van_url, base = stored(channel)["van"]["pushUrl"], f"/videostream/{channel.id}/inputs"
    assert gateway.api("POST", f"{base}/van/take", {}).status == 409
    with push(FILM, channel.push), push(FILM, van_url):
        until_state(channel, "main", "on air")
        until_state(channel, "van", "ready")
        taken = gateway.api("POST", f"{base}/van/take", {})
        assert taken.status == 200
        assert [(i["name"], i["state"], i["taken"]) for i in taken.json()] == [
            ("main", "ready", False),
            ("van", "on air", True),
        ]
        assert gateway.api("POST", f"{base}/nobody/take", {}).status == 404
        assert gateway.api("DELETE", f"{base}/take").status == 200
        until_state(channel, "main", "on air")
    events = gateway.api("GET", f"/events?channel={channel.id}&limit=100").json()
    switched = [event["data"] for event in events if event["type"] == "input.switched"]
    assert {"from": "main", "to": "van", "reason": "taken"} in switched
    assert {"from": "van", "to": "main"} in [{"from": s["from"], "to": s["to"]} for s in switched]
    acts = [event["data"] for event in events if event["type"] == "settings.changed"]
    assert [(one["what"], one["change"], one["name"]) for one in acts] == [
        ("inputs", "released", ""),
        ("input", "taken", "van"),
    ]


@pytest.mark.nightly
def test_inputs_at_two_nodes_belong_to_one_channel(tmp_path: Path) -> None:
    with sharing(tmp_path, 2) as (one, two):
        channel = one.channel()
        van_url = stored(channel)["van"]["pushUrl"].replace(str(one.ports["rtmp"]), str(two.ports["rtmp"]))
        there = Channel(two, channel.item)
        with push(FILM, channel.push) as main, push(FILM, van_url):
            until_state(channel, "main", "on air")
            until_state(channel, "van", "ready")
            until_state(there, "van", "ready")
            with pull(there.url("live.flv"), seconds=None) as player:
                until(lambda: len(so_far(player).video) > 10, "a player plays")
                main.kill()
                until_state(there, "van", "on air")
                assert there.session()["input"] == "van"
                seen = len(so_far(player).video)
                until(lambda: len(so_far(player).video) > seen + 30, "it plays on")
            with push(FILM, there.push) as again:
                until_state(channel, "main", "on air")
                assert two.api("POST", f"/videostream/{channel.id}/inputs/van/take", {}).status == 200
                assert inputs_of(channel)["van"]["taken"]
                assert again.running


# ---- one rule for all ways to store a list ----


def by_list(channel: Channel, inputs: Any) -> tuple[Any, str]:
    """Returns the stored list and no error, or why it was refused."""
    reply = channel.gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs)
    return stored_list(channel), "" if reply.status == 200 else reply.text


def by_channel(channel: Channel, inputs: Any) -> tuple[Any, str]:
    reply = channel.gateway.api("PUT", f"/videostream/{channel.id}", {"inputs": inputs})
    return stored_list(channel), "" if reply.status == 200 else reply.text


def by_creation(channel: Channel, inputs: Any) -> tuple[Any, str]:
    reply = channel.gateway.api("POST", "/videostream", {"outdate": "never", "inputs": inputs})
    return reply.json().get("inputs"), "" if reply.status == 200 else reply.text


def by_command(channel: Channel, inputs: Any) -> tuple[Any, str]:
    return run_command("update", channel, inputs)


def by_new_command(channel: Channel, inputs: Any) -> tuple[Any, str]:
    return run_command("create", channel, inputs)


def run_command(name: str, channel: Channel, inputs: Any) -> tuple[Any, str]:
    env = {**os.environ, "MILLRACE_DATA": str(channel.gateway.data)}
    arguments = ["channel", name, *([channel.id] if name == "update" else []), "--json"]
    done = command_line.run(*arguments, "--field", f"inputs={json.dumps(inputs)}", env=env, folder=channel.gateway.data)
    return (json.loads(done.stdout).get("inputs") if done.stdout else None), done.stderr


def stored_list(channel: Channel) -> Any:
    return channel.gateway.api("GET", f"/videostream/{channel.id}").json().get("inputs")


WAYS = {"list": by_list, "channel": by_channel, "creation": by_creation, "command": by_command, "new": by_new_command}
REFUSED: list[tuple[Any, str]] = [
    ({"kind": "push"}, "expected"),
    ([{"kind": "pulse"}], "the kind of an input is"),
    ([{"kind": "push"}, {"kind": "push", "name": "two"}], "one push"),
    ([{"kind": "backup", "name": "main"}], "only the push can be called main"),
    ([{"kind": "backup", "name": "a"}, {"kind": "slate", "name": "a"}], "two inputs are called a"),
    ([{"kind": "backup", "name": "a b"}], "the name of an input has"),
    ([{"kind": "pull", "url": "file:///etc/passwd"}], "the address of a pull"),
    ([{"kind": "pull", "url": "rtsp://********@a/x"}], "the masked address matches no stored address"),
    ([{"kind": "playlist", "items": ["../../secret"]}], "no key of the store"),
    ([{"kind": "playlist"}], "has no items"),
    ([{"kind": "playlist", "items": ["a" * 900] * 1000}], "bytes"),
    ([{"kind": "slate", "picture": "ftp://example.com/a.png"}], "a picture is"),
    ([{"kind": "slate", "picture": "Back soon"}], "the key of a picture or film in the store, or an address"),
    ([{"kind": "backup", "surprise": 1}], "no member 'surprise'"),
    ([{"kind": "backup", "name": str(n)} for n in range(9)], "at most 8 inputs"),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_refuses_the_same_lists_with_a_reason(gateway: Gateway, way: str) -> None:
    channel = gateway.channel()
    for inputs, reason in REFUSED:
        if "command" in WAYS[way].__name__ and len(json.dumps(inputs)) > 100_000:
            continue  # longer than an argument may be
        assert reason in WAYS[way](channel, inputs)[1], (inputs, reason)
    assert [entry["name"] for entry in inputs_of(channel).values()] == ["main"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_stores_the_same_list_in_any_order(gateway: Gateway, way: str) -> None:
    """What the API computes is not stored, and a list without a push gets one as its first input."""
    shown = {"state": "off", "error": None, "taken": False, "key": "secret", "pushUrl": "rtmp://a/b", "pushUrls": {}}
    slate = {"name": "card", "kind": "slate", "picture": "", "text": "Soon", "always": True}
    main, van = {"name": "main", "kind": "push"}, {"name": "van", "kind": "backup"}
    for sent, kept in (
        ([van | shown], [main, van]),
        ([slate, van, main | shown], [slate, van, main]),
        ([{"kind": "slate", "text": "Soon", "always": "true", "name": "card"}], [main, slate]),
    ):
        assert WAYS[way](gateway.channel(), sent) == (kept, "")
