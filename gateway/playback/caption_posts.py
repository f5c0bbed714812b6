"""Takes captions from a captioner's page: `POST /<id>/captions?sign=<stream key>`."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader, find_channel
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.body import read_body
from gateway.http.request import Request, parameters
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.lib.refusals import Refusals
from gateway.lib.texts import is_storable
from gateway.live.posted_captions import PostedCaption, post_caption
from gateway.live.stream import Stream
from gateway.media.labels import is_language
from gateway.media.timed_data import MAX_TEXT
from gateway.ports.errors import StoreUnavailable, TooManyRequests

PATH: Final = "captions"
MAX_BYTES: Final = 4096
BODY_SECONDS: Final = 10.0
_MEMBERS: Final = {"text", "language"}
TAKEN: Final = text(202, "viewers get this caption")
NOT_LIVE: Final = text(409, "the channel is not live")
_REFUSED: Final = text(403, "wrong stream key")


@dataclass(frozen=True, slots=True)
class CaptionPosts:
    """Puts captions into live streams, for clients that have the stream key.

    An unknown channel and a wrong key get the same answer. find(id): returns a live stream of this node.
    limit: counts refused keys by address. Above it, a wrong key gets 429.
    forward(request, id, body): sends a caption to the node that holds the stream.
    """

    channels: ChannelReader
    secrets: SigningSecrets
    find: Callable[[str], Stream | None]
    limit: Refusals
    forward: Callable[[Request, str, bytes], Awaitable[Response]]

    async def respond(self, request: Request, id: str) -> Answer:
        """Answers a request for a channel."""
        try:
            channel = await find_channel(self.channels, id)
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        if not self._is_key(request, id, channel):
            seconds = 0 if request.exempt else self.limit.add(request.peer, time.monotonic())
            return service_unavailable("too many wrong keys from this address", seconds, 429) if seconds else _REFUSED
        return read_body(request, MAX_BYTES, BODY_SECONDS, lambda body: self._take(request, id, body))

    def _is_key(self, request: Request, id: str, channel: Channel | None) -> bool:
        sign = next((value for name, value in parameters(request.raw_query) if name == "sign"), "")
        verdict = self.secrets.verify_push(id, channel.key if channel is not None else None, sign, time.time())
        return channel is not None and verdict is Verdict.VALID

    async def _take(self, request: Request, id: str, body: bytes) -> Response:
        try:
            caption = read_caption(body)
        except ValueError as error:
            return text(400, str(error))
        stream = self.find(id)
        if stream is None or stream.publisher is None:
            return await self.forward(request, id, body)
        try:
            post_caption(stream, caption)
        except TooManyRequests as error:
            return service_unavailable(str(error), error.retry_after, 429)
        return TAKEN


def read_caption(body: bytes) -> PostedCaption:
    """Reads `{"text", "language"?}`. Raises ValueError with a text for the client."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict) or not sent.keys() <= _MEMBERS:
        raise ValueError('expected JSON such as {"text": "Good evening.", "language": "en"}')
    caption, language = sent.get("text"), sent.get("language", "")
    if not isinstance(caption, str) or not caption.strip() or len(caption) > MAX_TEXT or not is_storable(caption):
        raise ValueError(f"text: expected 1 to {MAX_TEXT} characters")
    if language != "" and not is_language(language):
        raise ValueError("language: expected a tag such as en or pt-BR")
    return PostedCaption(caption, language)
