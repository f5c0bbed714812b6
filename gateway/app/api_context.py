"""Creates the context of the admin listener from settings, stores and other parts of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from gateway import __version__
from gateway.adapters.local.credentials import TokenVerifier
from gateway.adapters.local.host import shown_host
from gateway.adapters.stores import Stores
from gateway.api.authenticators import Authenticators
from gateway.api.cluster_queries import ClusterQueries, SingleNode
from gateway.api.context import AddressDefaults, Context, RequestLimits
from gateway.api.login_sessions import LoginLimits
from gateway.api.node_status import NodeStatus
from gateway.api.openid_provider import OpenIdProvider
from gateway.channels.addresses import OpenPorts
from gateway.http.forwarded import Forwarded
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.ports.errors import StoreAway, StoreUnusable
from gateway.ports.stores import ObjectStore

if TYPE_CHECKING:
    from gateway.app.background_jobs import BackgroundJobs
    from gateway.app.node_parts import NodeParts
    from gateway.app.output_factory import OutputFactory

log = structlog.get_logger(__name__)

REQUEST_SECONDS: Final = 30.0  # for the whole body of an API request


@dataclass(frozen=True, slots=True)
class ApiContextFactory:
    """Made by the app, with the parts of the gateway that the API shows and changes."""

    parts: NodeParts
    stores: Stores
    makers: OutputFactory
    verifier: TokenVerifier
    works: BackgroundJobs

    def context(
        self,
        ports: Callable[[], OpenPorts],
        forget: Callable[[str], None],
        node: NodeStatus,
        distant: RemoteViewerCounts,
        cluster: ClusterQueries | None = None,
        sums: Callable[[], Awaitable[MetricsSnapshot]] | None = None,
    ) -> Context:
        """Returns the API's context.

        ports: returns the open ports. forget: drops a channel from the listeners' caches. node: the result of `node()`.
        distant, cluster, sums: see Context; cluster and sums are None where the node runs alone.
        """
        settings, limits, playback = self.parts.settings, self.parts.settings.limits, self.parts.settings.playback
        return Context(
            version=__version__,
            hub=self.makers.hub,
            channels=self.stores.channels,
            domains=self.stores.domains,
            secrets=self.parts.secrets,
            people=self._people(),
            node=node,
            shown=AddressDefaults(
                ports=ports,
                push_host=shown_host(settings.rtmp.host),
                pull_host=shown_host(settings.http.host),
                public_url=playback.public_url,
                play_auth=playback.auth,
                sign_ttl=playback.sign_ttl,
            ),
            limits=RequestLimits(limits.api_body, limits.item, REQUEST_SECONDS),
            readiness=self.parts.readiness,
            metrics=self.parts.metrics,
            forget=forget,
            cluster=cluster or SingleNode(),
            distant=distant,
            studio=self.works.studio,
            kvs=self.works.kvs,
            objects=self.stores.objects,
            media_deletion=self.works.media_deletion,
            ivs=self.makers.cloud,
            proxies=Forwarded(settings.admin.forwarded_from),
            sums=sums,
            broadcast_servers=self.works.broadcast_servers,
            upload_origin=_UploadOrigin(self.stores.objects if self.stores.bucket else None),
        )

    def _people(self) -> Authenticators:
        settings, oidc = self.parts.settings, self.parts.settings.oidc
        provider = None
        if oidc.issuer:
            if not oidc.client_id:
                raise StoreUnusable(
                    "oidc.issuer is set: oidc.client_id has to be set too, to the client's id at the provider"
                )
            if not oidc.allow:
                log.warning("nobody may sign in through the provider: oidc.allow is empty", issuer=oidc.issuer)
            provider = OpenIdProvider(oidc, reachable=settings.egress.allow, tls=self.makers.tls)
        return Authenticators(
            self.stores.console,
            self.verifier,
            LoginLimits(settings.admin.session_idle, settings.admin.session_most),
            refusals_per_minute=settings.limits.refusals_per_minute,
            provider=provider,
        )

    def node(self) -> NodeStatus:
        """Returns the state of this node. Called once."""
        settings = self.parts.settings
        urls = {
            "channels": settings.channels,
            "objects": settings.objects,
            "jobs": settings.vod.jobs,
            "console": settings.admin.store,
        }
        workers = self.makers.workers
        return NodeStatus(
            settings.data,
            {name: url.partition(":")[0] for name, url in urls.items()},
            lambda: (workers.running, workers.most),
        )


class _UploadOrigin:
    """Returns the origin to which browsers upload when objects are in a bucket.

    It is taken from an upload address, once.
    """

    def __init__(self, objects: ObjectStore | None) -> None:
        self._objects = objects
        self._origin: str | None = None if objects is not None else ""

    async def __call__(self) -> str:
        if self._origin is None:
            assert self._objects is not None, "without a bucket there is nothing to ask"
            try:
                upload = await self._objects.upload("film.mp4", 60)
            except StoreAway:
                return ""  # tried again with the next page
            parts = urlsplit(upload.url) if upload is not None else urlsplit("")
            self._origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        return self._origin
