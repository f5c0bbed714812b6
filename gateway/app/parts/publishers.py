"""Answers the pages and encoders of publishers: open ports, push servers of a key, OBS's settings, captions."""

import asyncio
import json
from collections.abc import Mapping
from importlib import import_module

from gateway.adapters.local.host import shown_host
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import HTTPS_PORT, Addresses, OpenPorts, PublicDomains, push_ports
from gateway.channels.stores import ChannelReader, DomainStore
from gateway.http.origin_policy import hostname
from gateway.http.request import Request
from gateway.http.response import JSON, Response, service_unavailable
from gateway.ingest.registry import all_listeners
from gateway.lib import bounded_json
from gateway.lib.refusals import Refusals
from gateway.live.hub import Hub
from gateway.playback.caption_posts import NOT_LIVE, TAKEN, CaptionPosts
from gateway.playback.caption_posts import PATH as CAPTIONS
from gateway.playback.obs_configuration import PER_MINUTE, ObsConfiguration
from gateway.playback.router import FolderResponder, PublisherRoutes
from gateway.ports.cluster_queries import ClusterQueries
from gateway.ports.errors import AtCapacity, HolderUnavailable, StoreUnavailable
from gateway.reports.push_servers import KeyServers


class PublisherResponders:
    """The responders for publishers.

    hub: the live streams of this node. channels: may be a cache. cluster: sends requests to the other nodes.
    """

    def __init__(
        self, parts: NodeParts, hub: Hub, domains: DomainStore, channels: ChannelReader, cluster: ClusterQueries
    ) -> None:
        self._settings = parts.settings
        self._own_address = parts.own_address
        self._domains = domains
        self._cluster = cluster
        refused_keys = Refusals(parts.settings.limits.refusals_per_minute)
        self._captions = CaptionPosts(channels, parts.secrets, hub.find, refused_keys, self._forward_caption)
        self.servers = KeyServers(parts.secrets, channels, domains, cluster, self.shown_ports)
        self._obs = ObsConfiguration(channels, parts.secrets, self._addresses, Refusals(PER_MINUTE))

    def shown_ports(self) -> OpenPorts:
        """Returns the ports in addresses shown to users."""
        settings, ports = self._settings, self._own_address.with_certificate()
        if not settings.tls.in_front:
            return ports
        secure = {f"{listener.name}s" for listener in all_listeners()}
        opened = {name: port for name, port in settings.tls_ports().items() if name in secure and port}
        return ports.with_tls(**opened)

    def routes(self) -> PublisherRoutes:
        """Returns the responders for publishers at this node."""
        captions = self._captions.respond
        return PublisherRoutes(lambda request: self._ports(), self.servers.respond, self._obs.respond, captions)

    def operations(self) -> Mapping[str, FolderResponder]:
        """Returns the responders for publishers at an edge, by the name of the operation."""
        return {
            "push-ports": lambda request, rest: self._ports(hostname(request.host)),
            "push-servers": self.servers.respond,
            "obs": self._obs.respond,
            CAPTIONS: self._captions.respond,
        }

    async def _forward_caption(self, request: Request, id: str, body: bytes) -> Response:
        """Sends a caption to the node that holds the stream, where the API takes it."""
        forwarding = await asyncio.to_thread(import_module, "gateway.api.forwarding")  # it imports aiohttp
        try:
            async with self._cluster.forward(id, forwarding.caption_request(id, body, request.peer)) as answer:
                if answer is None or answer.status in (404, 409):
                    return NOT_LIVE
                if answer.status == TAKEN.status:
                    return TAKEN
                reason = bounded_json.loads(await forwarding.read_whole(answer)).get("error", "")
        except (HolderUnavailable, StoreUnavailable, AtCapacity):  # the calls have logged the reason
            return service_unavailable("the node with the stream does not answer now", HolderUnavailable.retry_after)
        return service_unavailable(str(reason), 1, 429 if answer.status == 429 else 503)

    async def _ports(self, host: str = "") -> Response:
        """Answers `/broadcast.json`.

        host: the host to which pages push if no push domain is set. "": the host of the page itself, which is wrong for
        pages of an edge, because it takes no pushes.
        """
        domains, ports = await self._domains.get_domains(), self.shown_ports()
        if self._settings.tls.in_front and ports["wss"] == HTTPS_PORT:  # the proxy in front of the pages has it
            domains, host = PublicDomains(), ""
        return Response(200, json.dumps(push_ports(domains, ports, host)).encode(), JSON)

    async def _addresses(self, host: str) -> Addresses:
        """Returns the addresses for a client that requested this host. Raises StoreUnavailable."""
        name = hostname(host) or shown_host(self._settings.rtmp.host)
        return Addresses.of(await self._domains.get_domains(), self.shown_ports(), name, name)
