"""Fuzz: bodies, keys, dates and domains of the API; documented errors only, and what is accepted can be kept."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.hub import relays
from gateway.hub.access import Secrets, Verdict
from gateway.hub.addresses import Addresses, Domains, Presenter
from gateway.hub.channel import Channel, changes, create_item
from gateway.hub.errors import InvalidField, TooLarge
from gateway.hub.fields import FIELDS

SECRETS = Secrets("fuzz-secret")
LIMIT = 64_000
PRESENTER = Presenter(Addresses("rtmp://a:1935", "http://a:8080"), SECRETS, "sign")
OLD = Channel(create_item({"outdate": "2030-01-01", "relayURL": "rtmp://a/b/c"}, 0, SECRETS, LIMIT))


def fuzz(data: bytes) -> None:
    """A request body, as bytes."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return  # the API's to refuse
    key = data.decode("utf-8", "surrogateescape")
    assert SECRETS.verify("a", key, 0) in (Verdict.WRONG, Verdict.MISSING)
    if isinstance(body, dict):
        judge(body)


def judge(body: dict[str, Any]) -> None:
    for what in (
        lambda: create_item(body, 0, SECRETS, LIMIT),
        lambda: {**OLD.item, **changes(OLD, body, SECRETS, LIMIT)},
    ):
        try:
            item = what()
        except (InvalidField, TooLarge):
            continue
        channel = Channel(item)
        stored = json.dumps(item, allow_nan=False, ensure_ascii=False).encode()
        assert len(stored) <= 2 * LIMIT
        assert json.loads(stored) == item
        assert SECRETS.verify_push(channel.id, channel.key, channel.key, 0) is Verdict.VALID
        json.dumps(PRESENTER.present(channel, 0))
        assert relays.MASK not in "".join(channel.relay_urls)
        for name in ("hls_time", "video_time", "ImageWidth"):
            assert 0 <= channel.number(name) <= 86_400
    try:
        Domains.from_json(body, Domains())
    except InvalidField:
        return


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["true", "2030-01-01", "rtmp://a/b/********", "1e9", ""])
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10
)
names = st.sampled_from([*FIELDS, "outdate", "id", "key", "TimeStamp", "pushDNS", "pullDNS", "playUrls"]) | st.text()
dates = st.sampled_from(["2030-01-01", 0, "1893456000", "2030/1/1", "9999-12-31T23:59:59+00:00"])


@given(st.dictionaries(names, anything, max_size=8), st.none() | dates)
def test_bodies_of_the_right_names_and_any_values(body, outdate):
    judge(body if outdate is None else body | {"outdate": outdate})


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_bytes(data):
    fuzz(data)
