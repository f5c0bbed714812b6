"""What the admin listener works on: settings, stores and the rest of the gateway as the API knows them."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from gateway import __version__
from gateway.adapters import Stores
from gateway.adapters.local.host import shown_host
from gateway.adapters.local.secrets import TokenVerifier
from gateway.api.cluster import Alone, Cluster
from gateway.api.context import Context, Limits, Shown
from gateway.api.node import Node
from gateway.api.people import People
from gateway.api.provider import OpenIdProvider
from gateway.hub.access import Secrets
from gateway.hub.addresses import Ports
from gateway.hub.distant import DistantViewers
from gateway.hub.errors import StoreAway, StoreUnusable
from gateway.hub.hub import Hub
from gateway.hub.ports import IvsChannels, ObjectStore
from gateway.hub.readiness import Readiness
from gateway.lib.measured import Measured
from gateway.lib.metrics import Metrics
from gateway.servers.forwarded import Forwarded
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.transcode.launch import Workers
    from gateway.works import Works

log = structlog.get_logger(__name__)

REQUEST_SECONDS: Final = 30.0  # for the whole body of an API request


@dataclass(frozen=True, slots=True)
class Admin:
    """Made by the app. tls: what outgoing connections trust; None: the system's authorities."""

    settings: Settings
    hub: Hub
    stores: Stores
    secrets: Secrets = field(repr=False)
    metrics: Metrics
    readiness: Readiness
    verifier: TokenVerifier
    works: Works
    workers: Workers
    ivs: IvsChannels
    tls: ssl.SSLContext | None

    def context(
        self,
        ports: Callable[[], Ports],
        forget: Callable[[str], None],
        node: Node,
        distant: DistantViewers,
        cluster: Cluster | None = None,
        sums: Callable[[], Awaitable[Measured]] | None = None,
    ) -> Context:
        """ports: what is open; forget: drops a channel from the listeners' cache; node: of `node()`; distant, cluster,
        sums: as of Context, None: this node is alone."""
        settings, limits, playback = self.settings, self.settings.limits, self.settings.playback
        return Context(
            version=__version__,
            hub=self.hub,
            channels=self.stores.channels,
            domains=self.stores.domains,
            secrets=self.secrets,
            people=self._people(),
            node=node,
            shown=Shown(
                ports=ports,
                push_host=shown_host(settings.rtmp.host),
                pull_host=shown_host(settings.http.host),
                public_url=playback.public_url,
                play_auth=playback.auth,
                sign_ttl=playback.sign_ttl,
            ),
            limits=Limits(limits.api_body, limits.item, REQUEST_SECONDS),
            readiness=self.readiness,
            metrics=self.metrics,
            forget=forget,
            cluster=cluster or Alone(),
            distant=distant,
            studio=self.works.studio,
            kvs=self.works.kvs,
            objects=self.stores.objects,
            ivs=self.ivs,
            proxies=Forwarded(settings.admin.forwarded_from),
            sums=sums,
            broadcast_servers=self.works.broadcast_servers,
            upload_origin=_UploadOrigin(self.stores.objects if self.stores.bucket else None),
        )

    def _people(self) -> People:
        settings, oidc = self.settings, self.settings.oidc
        provider = None
        if oidc.issuer:
            if not oidc.client_id:
                raise StoreUnusable("oidc.issuer is set: oidc.client_id has to say who this is at the provider")
            if not oidc.allow:
                log.warning("nobody may sign in through the provider: oidc.allow is empty", issuer=oidc.issuer)
            provider = OpenIdProvider(
                issuer=oidc.issuer,
                client_id=oidc.client_id,
                client_secret=oidc.client_secret.get_secret_value(),
                audience=oidc.audience,
                name=oidc.name,
                claim=oidc.claim,
                allow=oidc.allow,
                reachable=settings.egress.allow,
                tls=self.tls,
            )
        return People(
            self.stores.console,
            verify_token=self.verifier.verify,
            token_mark=lambda: self.verifier.mark,
            idle=settings.admin.session_idle,
            most=settings.admin.session_most,
            refusals_per_minute=settings.limits.refusals_per_minute,
            provider=provider,
        )

    def node(self) -> Node:
        """What is told of this process; made once."""
        settings = self.settings
        urls = {
            "channels": settings.channels,
            "objects": settings.objects,
            "jobs": settings.vod.jobs,
            "console": settings.admin.store,
        }
        workers = self.workers
        return Node(
            settings.data,
            {name: url.partition(":")[0] for name, url in urls.items()},
            lambda: (workers.running, workers.most),
        )


class _UploadOrigin:
    """Where browsers send films when objects are in a bucket: as the addresses that they get say, asked once."""

    def __init__(self, objects: ObjectStore | None) -> None:
        self._objects = objects
        self._origin: str | None = None if objects is not None else ""

    async def __call__(self) -> str:
        if self._origin is None:
            assert self._objects is not None, "without a bucket there is nothing to ask"
            try:
                upload = await self._objects.upload("film.mp4", 60)
            except StoreAway:
                return ""  # asked again with the next page
            parts = urlsplit(upload.url) if upload is not None else urlsplit("")
            self._origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        return self._origin
