"""Captions of a captioner's page: who may send them, what is accepted, and what else is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.channels.channel import Channel
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.refusals import Refusals
from gateway.playback.caption_posts import NOT_LIVE, CaptionPosts, read_caption
from gateway.playback.router import PublisherRoutes
from tests.support.builders import FAR, channel
from tests.support.http import Reply
from tests.support.playback import SECRETS, PlaybackServer, playing

KEY = SECRETS.sign("c1", FAR)
GOOD = {"text": "Good evening."}


class Lab:
    """A server that takes captions for the channel c1."""

    def __init__(self, server: PlaybackServer) -> None:
        self.server = server
        self.forwarded: list[tuple[str, Any]] = []

    async def forward(self, request: Request, id: str, body: bytes) -> Response:
        self.forwarded.append((id, json.loads(body)))
        return NOT_LIVE

    async def post(self, body: Any, *, sign: str = KEY, id: str = "c1") -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.server.listener.connect() as wire:
            return await wire.post(f"/{id}/captions?sign={sign}", data)

    def texts(self) -> dict[str, str]:
        """The last text of each track."""
        stream = self.server.hub.find("c1")
        assert stream is not None
        return {track: log.last.text for track, log in stream.captions.logs.items() if log.last is not None}


def stored() -> Channel:
    return channel("c1", key=KEY)


@asynccontextmanager
async def lab(per_minute: int = 100) -> AsyncIterator[Lab]:
    posts: list[CaptionPosts] = []
    nothing = [lambda *request: None] * 3
    publishers = PublisherRoutes(*nothing, lambda request, id: posts[0].respond(request, id))  # type: ignore[arg-type]
    async with playing(stored(), publishers=publishers) as server:
        made = Lab(server)
        posts.append(CaptionPosts(server.channels, SECRETS, server.hub.find, Refusals(per_minute), made.forward))
        yield made


async def test_a_caption_with_the_stream_key_reaches_the_live_stream() -> None:
    async with lab() as it:
        it.server.live("c1")
        assert (await it.post({"text": " Good <b>evening</b>. "})).status == 202
        assert (await it.post({"text": "Guten Abend.", "language": "de"})).status == 202
        assert it.texts() == {"text": "Good <b>evening</b>.", "text-de": "Guten Abend."}


async def test_a_wrong_key_and_an_unknown_channel_get_the_same_answer() -> None:
    async with lab() as it:
        it.server.live("c1")
        play, other = SECRETS.sign("c1", FAR, "play"), SECRETS.sign("c2", FAR)  # type: ignore[arg-type]
        replies = [await it.post(GOOD, sign=key) for key in ("", "x", play, other, KEY + "0")]
        replies.append(await it.post(GOOD, id="c2", sign=other))
        assert {(reply.status, reply.body) for reply in replies} == {(403, b"wrong stream key\n")}
        assert it.texts() == {}


async def test_many_wrong_keys_of_an_address_are_limited_and_the_right_key_is_not() -> None:
    async with lab(per_minute=3) as it:
        it.server.live("c1")
        assert [(await it.post(GOOD, sign="x")).status for _ in range(5)] == [403, 403, 403, 429, 429]
        assert (await it.post(GOOD)).status == 202


async def test_a_caption_of_a_stream_that_is_not_held_here_is_forwarded() -> None:
    async with lab() as it:
        reply = await it.post(GOOD)
        assert (reply.status, reply.text) == (409, "the channel is not live\n")
        assert it.forwarded == [("c1", GOOD)]
        assert (await it.post(GOOD, sign="x")).status == 403
        assert (await it.post({"text": ""})).status == 400
        assert len(it.forwarded) == 1


async def test_more_than_ten_captions_a_second_are_too_many() -> None:
    async with lab() as it:
        it.server.live("c1")
        replies = [await it.post({"text": f"{n}"}) for n in range(40)]
        assert {reply.status for reply in replies} == {202, 429}
        assert next(reply for reply in replies if reply.status == 429).headers["retry-after"] == "1"


async def test_a_body_above_the_limit_is_refused() -> None:
    async with lab() as it:
        it.server.live("c1")
        assert (await it.post(b"x" * 4097)).status == 413
        assert (await it.post({"text": "a"} | {"more": 1})).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 4000,
        b"[]",
        b'"text"',
        b"{}",
        b'{"text": 1}',
        b'{"text": "  "}',
        b'{"text": "\\ud800"}',
        b'{"text": "a", "to": 1}',
        b'{"text": "a", "language": 1}',
        b'{"text": "a", "language": "e n"}',
        json.dumps({"text": "x" * 501}).encode(),
    ],
)
def test_other_bodies_are_malformed(body: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_caption(body)


def test_a_caption_has_its_text_and_language() -> None:
    caption = read_caption('{"text": "Grüße", "language": "de-AT"}'.encode())
    assert (caption.text, caption.language, caption.start, caption.end) == ("Grüße", "de-AT", None, None)
