"""Creates services of the API from the settings: authentication, node status, upload origin."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import structlog

from gateway.api.authenticators import Authenticators
from gateway.api.login_sessions import LoginLimits
from gateway.api.node_status import NodeStatus
from gateway.api.openid_provider import OpenIdProvider
from gateway.app.node_parts import NodeParts
from gateway.playback.cloudfront_signer import CloudFrontSigner
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.stores import ConsoleStore, ObjectStore
from gateway.settings import Settings
from gateway.settings.models import CloudFrontSettings
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

REQUEST_SECONDS: Final = 30.0  # time-out of the whole body of an API request


def authenticators(parts: NodeParts, store: ConsoleStore, tls: ssl.SSLContext | None) -> Authenticators:
    """Returns the authentication of the API. Raises StoreUnusable."""
    settings, oidc = parts.settings, parts.settings.oidc
    provider = None
    if oidc.issuer:
        if not oidc.client_id:
            raise StoreUnusable(
                "oidc.issuer is set: oidc.client_id has to be set too, to the client's id at the provider"
            )
        if not oidc.allow and not oidc.broadcasters:
            log.warning("nobody may sign in through the provider: oidc.allow is empty", issuer=oidc.issuer)
        provider = OpenIdProvider(oidc, reachable=settings.egress.allow, tls=tls)
    return Authenticators(
        store,
        parts.verifier,
        LoginLimits(settings.admin.session_idle, settings.admin.session_most),
        refusals_per_minute=settings.limits.refusals_per_minute,
        provider=provider,
    )


def cloudfront_signer(settings: CloudFrontSettings) -> CloudFrontSigner | None:
    """Returns the signer of playback addresses; None without a private key. Raises UnusableKey."""
    pem = settings.private_key.get_secret_value()
    if not pem:
        return None
    from gateway.playback.cloudfront_keys import load_private_key  # not above: it needs 7 MB of memory

    return CloudFrontSigner(settings.key_pair_id, load_private_key(pem))


def node_status(settings: Settings, workers: WorkerPool) -> NodeStatus:
    """Returns the state of this node. Called once."""
    urls = {
        "channels": settings.channels,
        "objects": settings.objects,
        "jobs": settings.vod.jobs,
        "films": settings.vod.films,
        "console": settings.admin.store,
        "events": settings.events.store,
    }
    return NodeStatus(
        settings.data,
        {name: url.partition(":")[0] for name, url in urls.items()},
        lambda: (workers.running, workers.limit),
    )


class UploadOrigin:
    """Returns the origin for browser uploads to a bucket; "" if objects are not in a bucket.

    The origin is read from the first upload address.
    """

    def __init__(self, objects: ObjectStore | None) -> None:
        self._objects = objects
        self._origin: str | None = None if objects is not None else ""

    async def __call__(self) -> str:
        if self._origin is None:
            assert self._objects is not None, "without an object store the origin is known"
            try:
                upload = await self._objects.upload("film.mp4", 60)
            except StoreUnavailable:
                return ""  # the next request tries again
            parts = urlsplit(upload.url) if upload is not None else urlsplit("")
            self._origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        return self._origin
