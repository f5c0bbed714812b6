"""Creates the API of a gateway, and the services that only the API uses."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.adapters.local.host import shown_host
from gateway.api.alarms import ALARMS
from gateway.api.appearance import JPEGS, SITE_PAGES
from gateway.api.application import make_app
from gateway.api.channel_forms import DEFAULTS, LADDERS, RUNS_TASKS
from gateway.api.channels import MEDIA_DELETION
from gateway.api.clips import CLIPS
from gateway.api.cloudfront import SIGNER
from gateway.api.console import UPLOAD_ORIGIN, UploadOrigin
from gateway.api.context import AddressDefaults, Context, RequestLimits
from gateway.api.cues import CUES
from gateway.api.events import EVENT_LOG
from gateway.api.history import RECORDER, TRAFFIC
from gateway.api.inputs import PREVIEWS
from gateway.api.ivs import IVS
from gateway.api.jobs import KVS_JOBS, VOD_SERVICE
from gateway.api.recordings import BIN, FOLDER, REPLAYS, RETENTION_DAYS
from gateway.api.routes import routes_of
from gateway.api.servers import BROADCAST_SERVERS, KEY_SERVERS
from gateway.api.sessions import EXPERIENCE, REFUSALS, REMOTE_VIEWERS
from gateway.api.shows import SHOWS
from gateway.api.status import CERTIFICATE, NODE, READINESS, SPEECH
from gateway.app.listeners import ADMIN_CONNECTIONS, ADMIN_PER_ADDRESS
from gateway.app.parts.authentication import build_authenticators
from gateway.app.parts.gateway_parts import GatewayParts
from gateway.http.admin_listener import AdminLimits, AdminListener
from gateway.http.forwarded import Forwarded
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.playback.cloudfront_signer import CloudFrontSigner
from gateway.settings import Settings

_BODY_BYTES: Final = 256_000  # of a request: a channel, the rules of alarms, or a profile, with room to spare
_REQUEST_SECONDS: Final = 30.0  # time-out of the whole body of an API request


def build_context(gateway: GatewayParts, metrics_of_all: Callable[[], Awaitable[MetricsSnapshot]] | None) -> Context:
    """Returns the context of the handlers, for clients and other nodes. Raises StoreUnusable, UnusableKey.

    metrics_of_all: returns the metrics of all processes on these ports; None: there is only one process.
    """
    node, settings, stores = gateway.node, gateway.node.settings, gateway.backends.stores
    limits, playback, ports = settings.limits, settings.playback, gateway.publishers.shown_ports
    hosts = shown_host(settings.rtmp.host), shown_host(settings.http.host)
    passphrase = settings.srt.passphrase.get_secret_value()
    addresses = AddressDefaults(ports, *hosts, playback.public_url, playback.auth, playback.sign_ttl, passphrase)
    return Context(
        hub=gateway.live.hub,
        inputs=gateway.pushes.inputs,
        channels=stores.channels,
        changes=gateway.changes,
        domains=stores.domains,
        secrets=node.secrets,
        authenticators=build_authenticators(node, stores.console, gateway.backends.tls),
        address_defaults=addresses,
        limits=RequestLimits(_BODY_BYTES, limits.item, _REQUEST_SECONDS, limits.viewer_stall),
        metrics=node.metrics,
        objects=stores.objects,
        provide=_provider(gateway),
        metrics_of_all=metrics_of_all,
        cluster=gateway.cluster,
    )


def _provider(gateway: GatewayParts) -> Callable[[web.Application], None]:
    """Returns the function that adds the objects for one tag to an application. Raises UnusableKey."""
    settings, stores = gateway.node.settings, gateway.backends.stores
    live, jobs, pushes, diagnosis = gateway.live, gateway.jobs, gateway.pushes, gateway.diagnosis
    certificate = gateway.node.certificate
    signer, upload_origin = _cloudfront_signer(settings), UploadOrigin(stores.objects if stores.bucket else None)

    def provide(app: web.Application) -> None:
        app[ALARMS], app[EVENT_LOG], app[RECORDER] = gateway.alarms, gateway.backends.event_log, diagnosis.recorder
        app[NODE], app[READINESS], app[TRAFFIC] = diagnosis.node_status, gateway.node.readiness, diagnosis.traffic
        app[EXPERIENCE], app[REFUSALS], app[PREVIEWS] = gateway.node.experience, pushes.refusals, pushes.previews
        app[CUES], app[REMOTE_VIEWERS], app[JPEGS] = live.cues, live.remote_viewers, live.outputs.jpegs
        app[VOD_SERVICE], app[KVS_JOBS], app[BIN] = jobs.vod_service, jobs.kvs, jobs.bin
        app[CLIPS], app[MEDIA_DELETION], app[IVS] = gateway.clips, jobs.media_deletion, gateway.backends.cloud
        app[REPLAYS], app[RETENTION_DAYS] = gateway.replays, settings.recording.retention_days
        app[FOLDER] = settings.data / "tmp"
        app[UPLOAD_ORIGIN], app[SITE_PAGES] = upload_origin, gateway.viewers.site
        app[RUNS_TASKS], app[SPEECH] = settings.workers.runner == "ecs", bool(settings.captions.engine)
        app[LADDERS], app[DEFAULTS] = live.outputs.ladders, {"isReplay": settings.pages.replay}
        app[KEY_SERVERS], app[SHOWS] = gateway.publishers.servers, diagnosis.shows
        app[CERTIFICATE] = lambda: certificate.status() if certificate is not None else None
        if jobs.broadcast_servers is not None:
            app[BROADCAST_SERVERS] = jobs.broadcast_servers
        if signer is not None:
            app[SIGNER] = signer

    return provide


def build_admin(settings: Settings, context: Context) -> AdminListener:
    """Returns the server of the admin port. Its clients may come through proxies."""
    limits, proxies = settings.limits, Forwarded(settings.admin.forwarded_from)
    admin_limits = AdminLimits(limits.handshake, limits.viewer_stall, ADMIN_PER_ADDRESS, ADMIN_CONNECTIONS)
    return AdminListener(make_app(context, proxies, routes_of(settings.admin.console)), admin_limits, proxies)


def _cloudfront_signer(settings: Settings) -> CloudFrontSigner | None:
    """Returns the signer of playback addresses; None without a private key. Raises UnusableKey."""
    pem = settings.cloudfront.private_key.get_secret_value()
    if not pem:
        return None
    from gateway.playback.cloudfront_keys import load_private_key  # imported here, because it needs 7 MB of memory

    return CloudFrontSigner(settings.cloudfront.key_pair_id, load_private_key(pem))
