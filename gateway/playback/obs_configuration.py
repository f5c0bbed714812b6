"""Answers OBS: `POST /<id>/GetClientConfiguration`, the encoders and the server of OBS Multitrack Video."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.channels import obs_multitrack
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader, find_channel
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.lib.refusals import Refusals
from gateway.ports.errors import StoreUnavailable

PATH: Final = "GetClientConfiguration"
MAX_BYTES: Final = 65_536
PER_MINUTE: Final = 60  # requests of one address; OBS sends one for each start of a stream
BODY_SECONDS: Final = 10.0
_JSON: Final = "application/json"
_REFUSED: Final = text(403, "wrong stream key")
_MALFORMED: Final = text(400, "not a request of OBS: a JSON object with the stream key as authentication is expected")


@dataclass(frozen=True, slots=True)
class ObsConfiguration:
    """Answers with the configuration of a channel, to a client that has its stream key.

    addresses(host): returns the addresses for pushing. An unknown channel and a wrong key get the same answer.
    limit: counts each request as refused, before its key is checked, and refuses all requests above the limit.
    """

    channels: ChannelReader
    secrets: SigningSecrets
    addresses: Callable[[str], Awaitable[Addresses]]
    limit: Refusals

    async def respond(self, request: Request, id: str) -> Answer:
        """Answers a request for a channel. Requests of one address are limited."""
        if not request.exempt and (seconds := self.limit.add(request.peer, time.monotonic())):
            return service_unavailable("too many requests from this address", seconds, 429)
        try:
            channel = await find_channel(self.channels, id)
            addresses = await self.addresses(request.host)
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        return read_body(request, MAX_BYTES, BODY_SECONDS, lambda body: self._take(id, channel, addresses, body))

    def _take(self, id: str, channel: Channel | None, addresses: Addresses, body: bytes) -> Response:
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            return _MALFORMED
        key = sent.get("authentication") if isinstance(sent, dict) else None
        if not isinstance(key, str):
            return _MALFORMED
        name, _, query = key.partition("?")
        sign = next((part[5:] for part in query.split("&")[:8] if part.startswith("sign=")), None)
        stored = channel.key if channel is not None else None
        verdict = self.secrets.verify_push(id, stored, sign, time.time()) if sign is not None and name == id else None
        if channel is None or verdict is not Verdict.VALID:
            return _REFUSED
        try:
            canvas, limits = obs_multitrack.read_client_request(sent)
        except ValueError as error:
            return text(400, f"preferences.canvases: {error}")
        server = addresses.rtmp_server(channel)
        answer = obs_multitrack.make_configuration(canvas, limits, server, f"{id}?sign={channel.key}")
        return Response(200, json.dumps(answer).encode(), _JSON, cache="no-store")
