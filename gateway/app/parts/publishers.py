"""Answers the pages and encoders of publishers: open ports, push servers of a key, OBS's settings, captions."""

import json
from collections.abc import Mapping

from gateway.adapters.local.host import shown_host
from gateway.app.node_parts import NodeParts
from gateway.channels.addresses import Addresses, OpenPorts, push_ports
from gateway.channels.stores import ChannelReader, DomainStore
from gateway.http.origin_policy import hostname
from gateway.http.response import JSON, Response
from gateway.ingest.registry import all_listeners
from gateway.lib.refusals import Refusals
from gateway.live.hub import Hub
from gateway.playback.caption_posts import CaptionPosts
from gateway.playback.obs_configuration import PER_MINUTE, ObsConfiguration
from gateway.playback.router import FolderResponder, PublisherRoutes
from gateway.ports.cluster_queries import ClusterQueries
from gateway.reports.push_servers import KeyServers


class PublisherResponders:
    """The responders for publishers. channels: may be a cache. cluster: sends requests to the other nodes."""

    def __init__(
        self, parts: NodeParts, domains: DomainStore, channels: ChannelReader, cluster: ClusterQueries
    ) -> None:
        self._settings = parts.settings
        self._own_address = parts.own_address
        self._domains = domains
        self._channels = channels
        self._secrets = parts.secrets
        self.servers = KeyServers(parts.secrets, channels, domains, cluster, self.shown_ports)
        self._obs = ObsConfiguration(channels, parts.secrets, self._addresses, Refusals(PER_MINUTE))

    def shown_ports(self) -> OpenPorts:
        """Returns the ports in addresses shown to users."""
        settings, ports = self._settings, self._own_address.with_certificate()
        if not settings.tls.in_front:
            return ports
        secure = {f"{listener.name}s" for listener in all_listeners()}
        return ports.with_tls(**{name: port for name, port in settings.tls_ports().items() if name in secure})

    def routes(self, hub: Hub) -> PublisherRoutes:
        """Returns the responders for publishers at this node. hub: its live streams."""
        limit = Refusals(self._settings.limits.refusals_per_minute)
        captions = CaptionPosts(self._channels, self._secrets, hub.find, limit)
        return PublisherRoutes(lambda request: self._ports(), self.servers.respond, self._obs.respond, captions.respond)

    def operations(self) -> Mapping[str, FolderResponder]:
        """Returns the responders for publishers at an edge, by the name of the operation."""
        return {
            "push-ports": lambda request, rest: self._ports(hostname(request.host)),
            "push-servers": self.servers.respond,
            "obs": self._obs.respond,
        }

    async def _ports(self, host: str = "") -> Response:
        """Answers `/broadcast.json`.

        host: the host to which pages push if no push domain is set. "": the host of the page itself, which is wrong for
        pages of an edge, because it takes no pushes.
        """
        domains = await self._domains.get_domains()
        return Response(200, json.dumps(push_ports(domains, self.shown_ports(), host)).encode(), JSON)

    async def _addresses(self, host: str) -> Addresses:
        """Returns the addresses for a client that requested this host. Raises StoreUnavailable."""
        name = hostname(host) or shown_host(self._settings.rtmp.host)
        return Addresses.of(await self._domains.get_domains(), self.shown_ports(), name, name)
