"""Push targets that the browser client of the original system may request."""

from __future__ import annotations

import pytest

from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.lib.egress import Egress
from gateway.live.shelf import StreamLimits
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.ports.events import Events
from gateway.settings.layers import SettingsError, load


def compatible(*allowed: str) -> CompatibleTargets:
    relays = RelayFactory(load(environ={}).relay, Egress(), Events())
    return CompatibleTargets(allowed, relays, StreamLimits(0, 0, 15, 1_000_000), lambda: {"rtmp": 1935, "rtmps": 0})


@pytest.mark.parametrize(
    ("entry", "target", "allowed"),
    [
        ("live.example.com", "rtmps://live.example.com/app/key", True),
        ("live.example.com", "rtmp://LIVE.example.com.:1935/app/key", True),
        ("live.example.com", "rtmps://live.example.com.evil.example/app/key", False),
        ("live.example.com", "rtmps://evil.example/live.example.com", False),
        ("live.example.com", "rtmps://live.example.com@evil.example/app/key", False),
        ("live.example.com", "rtmps://user@live.example.com/app/key", False),
        ("*.live-video.net", "rtmps://a1.global-contribute.live-video.net:443/app/sk_x", True),
        ("*.live-video.net", "rtmps://live-video.net/app/sk_x", False),
        ("*.live-video.net", "rtmps://evil-live-video.net/app/sk_x", False),
        ("rtmps://live.example.com/app/", "rtmps://live.example.com/app/key", True),
        ("rtmps://live.example.com/app", "rtmps://live.example.com/app/key", True),
        ("rtmps://live.example.com/app", "RTMPS://Live.example.com/app?key", True),
        ("rtmps://live.example.com/app", "rtmps://live.example.com/apple/key", False),
        ("rtmps://live.example.com/app/", "rtmp://live.example.com/app/key", False),
        ("rtmps://live.example.com/app/", "rtmps://live.example.com/other/key", False),
        ("rtmps://live.example.com/app/", "rtmps://live.example.com/app/../other/key", False),
        ("rtmps://live.example.com/app/", "rtmps://live.example.com/app/%2e%2e/other/key", False),
        ("rtmps://live.example.com", "rtmps://live.example.com.evil.example/app/key", False),
        ("rtmps://live.example.com", "rtmps://live.example.com:9999/app/key", False),
        ("127.0.0.1", "rtmp://127.0.0.1:1935/stream/c1?sign=1-a", True),
        ("::1", "rtmp://[::1]:1935/stream/c1", True),
        ("a.example", "http://a.example/app/key", False),
        ("a.example", "arn:aws:ivs:eu-west-1:123456789012:channel/abc", False),
    ],
)
def test_only_listed_targets_are_allowed(entry: str, target: str, allowed: bool) -> None:
    assert compatible(entry).allows(target) is allowed


@pytest.mark.parametrize(
    ("target", "host", "name"),
    [
        ("rtmp://127.0.0.1:1935/stream/c1?sign=1-a", "other", "c1"),
        ("rtmp://localhost/stream/c1?sign=1-a", "other", "c1"),
        ("rtmp://[::1]:1935/stream/c1?sign=1-a", "other", "c1"),
        ("rtmp://live.lan/stream/c1?sign=1-a", "LIVE.lan", "c1"),
        ("rtmp://live.lan/stream?sign=1-a/c1", "live.lan", "c1"),
    ],
)
def test_a_target_on_this_gateway_is_recognized_as_a_local_stream(target: str, host: str, name: str) -> None:
    own = compatible("x").local_stream(target, host)
    assert own is not None
    assert (own.name, own.query) == (name, {"sign": "1-a"})


@pytest.mark.parametrize(
    "target",
    [
        "rtmp://127.0.0.1:1936/stream/c1?sign=1-a",
        "rtmp://127.0.0.1/live/c1?sign=1-a",
        "rtmp://elsewhere.example/stream/c1?sign=1-a",
        "rtmps://127.0.0.1/stream/c1?sign=1-a",
        "rtmp://127.0.0.1:0/stream/c1",
        "rtmp://127.0.0.1",
    ],
)
def test_targets_on_other_servers_are_not_local_streams(target: str) -> None:
    assert compatible("x").local_stream(target, "live.lan") is None


@pytest.mark.parametrize(
    "entry", ["http://a.example/", "rtmp://", "rtmps://user@a.example/", "a b", "rtmp://a/?x=y", "-"]
)
def test_an_invalid_entry_of_the_target_list_is_a_settings_error(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"ws\.compatible"):
        load(environ={"MILLRACE_WS__COMPATIBLE": entry})
