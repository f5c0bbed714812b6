"""The list of inputs in client requests, with schedules of playlists."""

from __future__ import annotations

import pytest

from gateway.channels.channel import Channel, changes
from gateway.channels.inputs import (
    MAIN_INPUT,
    ONLY_MAIN,
    Below,
    InputKind,
    masked_list,
    parse_inputs,
    push_input,
    restore_addresses,
    stored_inputs,
)
from gateway.channels.playlist_items import PlaylistItem
from gateway.channels.stream_key import SigningSecrets
from gateway.ports.errors import InvalidField


@pytest.mark.parametrize(
    "url",
    [
        *(
            "concat:/etc/passwd|/etc/hosts",
            "subfile,,start,0,end,9,,:/etc/passwd",
            "data:text/plain,x",
            "crypto:/etc/passwd",
        ),
        *("tcp://a:1", "ftp://a/x", "gopher://a/x", "pipe:0", "fd:0", "-i", "http://", "http:///x"),
        *("http://a:0/x", "http://a\r\nX: y/", "HTTP://a:99999/", "rtsp://[::1", "http://a b/"),
        *("srt://a", "srt://a:1?mode=listener", "srt://a:1?x=y", "udp://10.0.0.1:53", "rtp://a:5000", "udp://@:5000"),
    ],
)
def test_only_urls_of_media_servers_can_be_pulled(url: str) -> None:
    with pytest.raises(InvalidField):
        parse_inputs([{"kind": "pull", "url": url}])


@pytest.mark.parametrize("password", ["Cam#2024", "what?", "a/b", "[x", "two words", "a#1@b"])
def test_a_password_that_cuts_its_address_is_named_as_the_reason(password: str) -> None:
    with pytest.raises(InvalidField, match="%23 for #, %3F for \\?"):
        parse_inputs([{"kind": "pull", "url": f"rtsp://admin:{password}@203.0.113.5:554/stream1"}])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("srt://a:1?streamid=read:x&passphrase=0123456789", "srt://a:1?********"),
        ("udp://10.0.0.9@232.1.2.3:5000", "udp://10.0.0.9@232.1.2.3:5000"),
        ("rtp://@239.1.2.3:5000", "rtp://@239.1.2.3:5000"),
        ("rtsp://u:p@a/x", "rtsp://********@a/x"),
    ],
)
def test_secrets_of_a_pull_are_masked_and_restored(url: str, shown: str) -> None:
    specs = parse_inputs([{"kind": "pull", "url": url}])
    listed = masked_list([spec.stored() for spec in specs])
    assert listed[1]["url"] == shown
    assert parse_inputs(restore_addresses(listed, specs)) == specs


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("a/film.mp4", PlaylistItem("a/film.mp4")),
        ("a/film/@6:05", PlaylistItem("a/film/", 6 * 3600 + 300)),
        ("film.mp4@23:59:59", PlaylistItem("film.mp4", 86_399)),
        ("me@home.mp4@00:00", PlaylistItem("me@home.mp4", 0)),
        ("me@home.mp4", PlaylistItem("me@home.mp4")),
        ("film.mp4@noon", PlaylistItem("film.mp4@noon")),
    ],
)
def test_a_playlist_item_may_have_a_start_time(text: str, item: PlaylistItem) -> None:
    assert PlaylistItem.parse(text) == item


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"items": ["a@24:00"]}, "items: 24:00 is no time of day: 00:00 to 23:59:59"),
        ({"items": ["a@12:60"]}, "items: 12:60 is no time of day"),
        ({"items": ["a@08:00", "b@8:00:00"]}, "items: two of them begin at 8:00:00"),
        ({"items": ["@08:00"]}, "'@08:00' is no key of the store|no key"),
        ({"items": ["../a@08:00"]}, "is no key of the store"),
        ({"items": [8]}, "items is a list of at most"),
        ({"items": ["a@08:00"], "zone": "Mars/Olympus"}, "zone: expected a time zone such as Europe/Berlin"),
        ({"items": ["a@08:00"], "zone": "../../etc/passwd"}, "zone: expected a time zone"),
        ({"items": ["a@08:00"], "zone": 3}, "zone is a text"),
    ],
)
def test_an_invalid_playlist_schedule_is_refused_with_a_reason(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidField, match=words):
        parse_inputs([{"kind": "playlist", **changes}])


def test_a_playlist_schedule_is_stored_unchanged() -> None:
    sent = {"name": "tv", "kind": "playlist", "items": ["a@08:00", "b"], "loop": True, "zone": "Asia/Shanghai"}
    push, tv = parse_inputs([sent])
    assert (push.kind, tv.stored()) == (InputKind.PUSH, {**sent, "always": False})


@pytest.mark.parametrize("kind", ["push", "backup", "pull"])
def test_inputs_that_come_over_a_network_may_have_a_rule_for_thin_links(kind: str) -> None:
    item = {"kind": kind, "url": "rtmp://a/b", "below": {"kbps": 800, "seconds": 5}}
    spec = next(spec for spec in parse_inputs([item]) if spec.kind == kind)
    assert spec.below == Below(800, 5)
    assert spec.stored()["below"] == {"kbps": 800, "seconds": 5}
    assert parse_inputs([spec.stored()])[-1].below == spec.below


@pytest.mark.parametrize("below", [None, {"kbps": 800, "seconds": 5}])
def test_a_slate_has_no_such_rule_and_without_it_nothing_is_stored(below: object) -> None:
    push, slate = parse_inputs([{"kind": "push"}, {"kind": "slate", "below": below}])
    assert "below" not in push.stored()
    assert "below" not in slate.stored()


@pytest.mark.parametrize(
    "below",
    [
        *(5, "800", [800, 5], {}, {"kbps": 800}, {"kbps": 800, "seconds": 5, "more": 1}),
        *({"kbps": 0, "seconds": 5}, {"kbps": -1, "seconds": 5}, {"kbps": 800, "seconds": 61}),
        *({"kbps": True, "seconds": 5}, {"kbps": 800.5, "seconds": 5}, {"kbps": "800", "seconds": 5}),
        *({"kbps": 10**9, "seconds": 5}, {"kbps": float("nan"), "seconds": 5}, {"kbps": None, "seconds": 5}),
    ],
)
def test_an_invalid_rule_for_thin_links_is_refused_with_a_reason(below: object) -> None:
    with pytest.raises(InvalidField, match="below"):
        parse_inputs([{"kind": "push", "below": below}])


VAN = {"name": "van", "kind": "backup"}


@pytest.mark.parametrize(
    "stored",
    [
        *("[]", 5, {"kind": "push"}, [None], [[]], [{}], [{"kind": []}], [VAN, VAN], [VAN, {"kind": "future"}]),
        [VAN, {"kind": "pull", "url": "rtsp://user:password@[::1"}],
        [VAN, {"kind": "push", "name": "a"}, {"kind": "push", "name": "b"}],
        [VAN, {"kind": "pull", "url": 5}, {"kind": "pull", "url": "rtsp://user:password@camera/1", "later": 1}],
    ],
)
def test_a_stored_list_that_breaks_the_rules_counts_as_the_push_alone_and_can_be_sent_back(stored: object) -> None:
    """Another program or version wrote it. Clients send back complete channels, so it must not refuse other changes."""
    channel, secrets = Channel({"id": "c1", "inputs": stored}), SigningSecrets("secret")
    assert stored_inputs(channel.item) == ONLY_MAIN
    assert push_input(channel.item, "") == MAIN_INPUT and push_input(channel.item, "van") is None
    shown = masked_list(stored)
    assert "password" not in str(shown)
    assert changes(channel, {"inputs": shown, "videoname": "x"}, secrets, 0) == {"videoname": "x"}
    assert changes(channel, {"inputs": [VAN]}, secrets, 0) == {"inputs": [MAIN_INPUT.stored(), VAN]}
