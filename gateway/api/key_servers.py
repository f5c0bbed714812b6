"""The push servers for a publisher that has only a stream key: `GET /_servers/<id>?sign=<key>` on both listeners."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import Missing, answer, json_text
from gateway.api.context import CONTEXT, host_of, hostname
from gateway.api.route import operation
from gateway.api.servers import live_servers
from gateway.channels.addresses import OpenPorts
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader, find_channel
from gateway.channels.stream_key import SigningSecrets, Verdict
from gateway.http.request import Request
from gateway.http.response import JSON, Answer, Response, not_allowed, service_unavailable, text
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import NotAuthorized, StoreUnavailable

_REFUSED: Final = "a valid stream key of this channel is needed: ?sign=<expiry>-<hash>"  # also for unknown channels


@dataclass(frozen=True, slots=True)
class KeyServers:
    """Lists the push servers for a valid push key.

    channels: may be a cache. Then a client with a newly revoked key can still list the servers, but cannot push.
    A wrong signature causes no read of the store. ports: returns the open ports. clock: seconds since 1970.
    """

    secrets: SigningSecrets = field(repr=False)
    channels: ChannelReader
    cluster: ClusterQueries
    ports: Callable[[], OpenPorts]
    clock: Callable[[], float] = time.time

    async def list(self, id: str, key: str, host: str) -> list[dict[str, Any]]:
        """Returns the servers as `GET /servers`. host: of this node, as the client knows it.

        Raises NotAuthorized, StoreUnavailable.
        """
        now = self.clock()
        if not is_channel_id(id) or self.secrets.verify(id, key, now) is not Verdict.VALID:
            raise NotAuthorized(_REFUSED)
        channel = await find_channel(self.channels, id)
        if self.secrets.verify_push(id, channel.key if channel is not None else None, key, now) is not Verdict.VALID:
            raise NotAuthorized(_REFUSED)
        return await live_servers(self.cluster, self.ports(), host)

    async def respond(self, request: Request, id: str) -> Answer:
        """Answers on the playback listener. id: the rest of the path."""
        if request.method not in ("GET", "HEAD"):
            return not_allowed("GET, HEAD")
        try:
            listed = await self.list(id, request.query.get("sign", ""), hostname(request.host))
        except NotAuthorized as error:
            return text(403, str(error))
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        return Response(200, json_text(listed).encode(), JSON)


@operation(
    list[schemas.Server], statuses=(403, 503), query=(("sign", "the stream key of the channel, <expiry>-<hash>"),)
)
async def servers(request: web.Request) -> web.Response:
    """The live gateways, for a publisher that has only a stream key."""
    servers_by_key = request.app[CONTEXT].servers_by_key
    if servers_by_key is None:
        raise Missing("this node lists no servers")
    return answer(await servers_by_key(request.match_info["id"], request.query.get("sign", ""), host_of(request)))
