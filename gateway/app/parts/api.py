"""Creates the API of a gateway, and the services that only the API uses."""

import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import structlog

from gateway import __version__
from gateway.adapters.local.host import shown_host
from gateway.api.application import make_app
from gateway.api.authenticators import Authenticators
from gateway.api.context import AddressDefaults, Context, RequestLimits
from gateway.api.login_sessions import LoginLimits
from gateway.api.openid_provider import OpenIdProvider
from gateway.app.listeners import ADMIN_CONNECTIONS, ADMIN_PER_ADDRESS
from gateway.app.node_parts import NodeParts
from gateway.app.parts.gateway_parts import GatewayParts
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.playback.cloudfront_signer import CloudFrontSigner
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.stores import ConsoleStore, ObjectStore
from gateway.settings import Settings
from gateway.settings.models import CloudFrontSettings

log = structlog.get_logger(__name__)

_BODY_BYTES: Final = 256_000  # of a request: a channel, the rules of alarms, or a profile, with room to spare
_REQUEST_SECONDS: Final = 30.0  # time-out of the whole body of an API request


def build_context(gateway: GatewayParts, metrics_of_all: Callable[[], Awaitable[MetricsSnapshot]] | None) -> Context:
    """Returns the context of the handlers, for clients and other nodes. Raises StoreUnusable, UnusableKey.

    metrics_of_all: returns the metrics of all processes on these ports; None: there is only one process.
    """
    node, settings, limits = gateway.node, gateway.node.settings, gateway.node.settings.limits
    stores, live, pushes, jobs = gateway.backends.stores, gateway.live, gateway.pushes, gateway.jobs
    return Context(
        version=__version__,
        hub=live.hub,
        inputs=pushes.inputs,
        previews=pushes.previews,
        channels=stores.channels,
        domains=stores.domains,
        secrets=node.secrets,
        authenticators=_authenticators(node, stores.console, gateway.backends.tls),
        node_status=gateway.diagnosis.node_status,
        address_defaults=AddressDefaults(
            ports=gateway.publishers.shown_ports,
            push_host=shown_host(settings.rtmp.host),
            pull_host=shown_host(settings.http.host),
            public_url=settings.playback.public_url,
            play_auth=settings.playback.auth,
            passphrase=settings.srt.passphrase.get_secret_value(),
            sign_ttl=settings.playback.sign_ttl,
        ),
        limits=RequestLimits(_BODY_BYTES, limits.item, _REQUEST_SECONDS, limits.viewer_stall),
        readiness=node.readiness,
        metrics=node.metrics,
        recorder=gateway.diagnosis.recorder,
        experience=node.experience,
        cues=live.cues,
        traffic=gateway.diagnosis.traffic,
        changes=gateway.changes,
        cluster=gateway.cluster,
        remote_viewers=live.remote_viewers,
        refusals=pushes.refusals,
        event_log=gateway.backends.event_log,
        vod_service=jobs.vod_service,
        kvs=jobs.kvs,
        objects=stores.objects,
        bin=jobs.bin,
        convert_picture=live.outputs.jpegs.convert,
        site_changed=gateway.viewers.site.expire,
        clips=gateway.clips,
        media_deletion=jobs.media_deletion,
        ivs=gateway.backends.cloud,
        alarms=gateway.alarms,
        cloudfront=_cloudfront_signer(settings.cloudfront),
        metrics_of_all=metrics_of_all,
        broadcast_servers=jobs.broadcast_servers,
        servers_by_key=gateway.publishers.servers.list,
        certificate=lambda: node.certificate.status() if node.certificate is not None else None,
        speech=bool(settings.captions.engine),
        pages=settings.admin.console,
        tasks=settings.workers.runner == "ecs",
        upload_origin=UploadOrigin(stores.objects if stores.bucket else None),
    )


def build_admin(settings: Settings, context: Context) -> AdminListener:
    """Returns the server of the admin port. Its clients may come through proxies."""
    limits, proxies = settings.limits, Forwarded(settings.admin.forwarded_from)
    admin_limits = AdminLimits(limits.handshake, limits.viewer_stall, ADMIN_PER_ADDRESS, ADMIN_CONNECTIONS)
    return AdminListener(make_app(context, proxies), admin_limits, proxies)


def _authenticators(parts: NodeParts, store: ConsoleStore, tls: ssl.SSLContext | None) -> Authenticators:
    """Returns the authentication of the API. Raises StoreUnusable."""
    settings, oidc = parts.settings, parts.settings.oidc
    provider = None
    if oidc.issuer:
        if not oidc.client_id:
            text = "oidc.issuer is set: oidc.client_id has to be set too, to the client's id at the provider"
            raise StoreUnusable(text)
        if not oidc.allow and not oidc.broadcasters:
            log.warning("nobody may sign in through the provider: oidc.allow is empty", issuer=oidc.issuer)
        provider = OpenIdProvider(oidc, reachable=settings.egress.allow, tls=tls)
    limits = LoginLimits(settings.admin.session_idle, settings.admin.session_most)
    refusals = settings.limits.refusals_per_minute
    return Authenticators(store, parts.token.verifier, limits, refusals_per_minute=refusals, provider=provider)


def _cloudfront_signer(settings: CloudFrontSettings) -> CloudFrontSigner | None:
    """Returns the signer of playback addresses; None without a private key. Raises UnusableKey."""
    pem = settings.private_key.get_secret_value()
    if not pem:
        return None
    from gateway.playback.cloudfront_keys import load_private_key  # imported here, because it needs 7 MB of memory

    return CloudFrontSigner(settings.key_pair_id, load_private_key(pem))


class UploadOrigin:
    """Returns the origin for browser uploads to a bucket; "" if browsers upload to the gateway.

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
