"""Bodies, keys, dates and domains of the API: documented errors only, and what is accepted can be kept and shown."""

from __future__ import annotations

import json
from typing import Any

from gateway.api.presenter import Presenter
from gateway.channels import relay_urls
from gateway.channels.addresses import Addresses, PublicDomains
from gateway.channels.channel import Channel, changes, create_item
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.ports.errors import InvalidField, TooLarge

_SECRETS = SigningSecrets("fuzz-secret")
_LIMIT = 64_000
_PRESENTER = Presenter(Addresses("rtmp://a:1935", "http://a:8080"), _SECRETS, "sign")
_OLD = Channel(
    create_item({"outdate": "2030-01-01", "relayURL": "rtmp://a/b/c", "announce": ["ntfy://a"]}, 0, _SECRETS, _LIMIT)
)


SEEDS = [
    b'{"outdate": "2030-01-01", "isFlv": "true", "isHls": 1, "hls_time": "2", "relayURL": "rtmp://a/b/c,rtmps://d/e/f"}',
    b'{"outdate": 1893456000, "refererAllow": ["*.a.b"], "playAuth": "sign", "logLevel": "debug", "x": {"a": []}}',
    b'{"relayURL": ["rtmp://a/b/********"], "video_time": "1e9", "ImageWidth": -1, "WaterMarkText": "x", "key": "1-a"}',
    b'{"upcoming": {"title": "a", "at": "2030-01-31T18:00:00Z", "text": ""}, "announce": ["ntfy://a", "https://b/c"]}',
    b'{"upcoming": {"title": "a", "at": 1893456000000}, "announce": ["ntfy://********"]}',
    b'{"pushDNS": "rtmp://push.example.com", "pullDNS": "https://pull.example.com:8443/x"}',
    b'{"outdate": "2030-01-01", "relayURL": ["moq://a:4443/b?c=d#e", "https://a/b", "moq://a@b/c"]}',
    b"1670371200-5db080c8cdca8764de881bc04e61e2b1",
]


def fuzz(data: bytes) -> None:
    """A request body, as bytes."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return  # the API's to refuse
    key = data.decode("utf-8", "surrogateescape")
    assert _SECRETS.verify("a", key, 0) in (Verdict.WRONG, Verdict.MISSING)
    if isinstance(body, dict):
        judge(body)


def judge(body: dict[str, Any]) -> None:
    for what in (
        lambda: create_item(body, 0, _SECRETS, _LIMIT),
        lambda: {**_OLD.item, **changes(_OLD, body, _SECRETS, _LIMIT)},
    ):
        try:
            item = what()
        except (InvalidField, TooLarge):
            continue
        channel = Channel(item)
        stored = json.dumps(item, allow_nan=False, ensure_ascii=False).encode()
        assert len(stored) <= 2 * _LIMIT
        assert json.loads(stored) == item
        assert _SECRETS.verify_push(channel.id, channel.key, channel.key, 0) is Verdict.VALID
        json.dumps(_PRESENTER.present(channel, 0))
        assert relay_urls.MASK not in "".join((*channel.relay_targets, *channel.announce))
        show = channel.upcoming(0)
        assert show is None or show == channel.upcoming_at(show.at)
        for name in ("hls_time", "video_time", "ImageWidth"):
            assert 0 <= channel.number(name) <= 86_400
    try:
        PublicDomains.from_json(body, PublicDomains())
    except InvalidField:
        return
