"""The running gateway takes captions of somebody who has the stream key, and shows them to viewers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.clients import push, until
from tests.support.gateway import Channel, Gateway, Reply, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("text-captions", seconds=20)

gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_LIMITS__REFUSALS_PER_MINUTE="3")


@pytest.fixture(scope="module")
def stage(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel(captions=[{"source": "text", "language": "en"}], slug="captioned")
    with push(FILM, channel.push, loop=True):
        channel.wait_live()
        yield channel


def post(channel: Channel, text: str, *, key: str, folder: str = "") -> Reply:
    url = channel.url(f"captions?sign={key}").replace(channel.id, folder or channel.id)
    return http("POST", url, body={"text": text, "language": "en"})


def last(gateway: Gateway, channel: Channel) -> str:
    return str(gateway.api("GET", f"/videostream/{channel.id}/captions").json()[0]["last"])


@pytest.mark.parametrize("folder", ["", "captioned"])
def test_the_stream_key_is_the_right_to_send_captions(gateway: Gateway, stage: Channel, folder: str) -> None:
    text = f"for {folder or 'the id'} at {time.time()}"
    answer = post(stage, text, key=stage.key, folder=folder)
    assert answer.status == 202, answer.text
    until(lambda: last(gateway, stage) == text, "the stream has the caption")


def test_without_a_publisher_it_is_a_conflict(gateway: Gateway) -> None:
    idle = gateway.channel()
    answer = post(idle, "hello", key=idle.key)
    assert answer.status == 409 and "not live" in answer.text


def test_wrong_keys_are_limited_and_never_logged(gateway: Gateway, stage: Channel) -> None:
    assert [post(stage, "wrong", key="1-wrong").status for _ in range(5)] == [403, 403, 403, 429, 429]
    assert post(stage, "right", key=stage.key).status == 202
    assert last(gateway, stage) != "wrong"
    assert stage.key not in gateway.log and "1-wrong" not in gateway.log


def test_the_page_of_a_captioner_exists(stage: Channel) -> None:
    page = http("GET", stage.url("caption.html"))
    assert page.status == 200 and "caption.js" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
