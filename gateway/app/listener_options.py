"""Derives servers and their options from the settings, for a gateway and for an edge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gateway.channels.stream_key import SigningSecrets
from gateway.http.connection import HttpLimits
from gateway.http.forwarded import Forwarded
from gateway.http.server import HttpServer
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import PlaybackRouter
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.cluster.node_endpoint import NodeEndpoint
    from gateway.playback.cloudfront_keys import PublicKey

TARGET_BYTES: Final = 8192  # of a request's target; the limit of the whole head is a setting


def http_limits(settings: Settings) -> HttpLimits:
    """Returns the limits of the playback listener."""
    http, limits = settings.http, settings.limits
    return HttpLimits(
        head_bytes=http.max_header,
        target_bytes=TARGET_BYTES,
        head_seconds=limits.handshake,
        keep_alive=http.keep_alive,
        stall_seconds=limits.viewer_stall,
        per_address=limits.playback_per_address,
    )


def admin_http_limits(settings: Settings) -> HttpLimits:
    """Returns the limits of an edge's admin listener, which uses the playback listener's server."""
    limits = settings.limits
    return replace(http_limits(settings), per_address=limits.admin_per_address, connections=limits.admin_connections)


def playback_server(settings: Settings, router: PlaybackRouter, door: NodeEndpoint | None = None) -> HttpServer:
    """Returns the server for playback. door: answers other nodes; None: the node runs alone."""
    limits, forwarded = http_limits(settings), Forwarded(settings.http.forwarded_from)
    if door is None:
        return HttpServer(router, limits, forwarded)
    router.add_folder("_node", door)
    return HttpServer(router, limits, forwarded, unshown=("POST",), exempts=door.signed)


def protection(settings: Settings, secrets: SigningSecrets) -> PlaybackProtection:
    """Returns the rules for playback over HTTP. Raises UnusableKey."""
    playback = settings.playback
    return PlaybackProtection(
        auth=playback.auth,
        referers=playback.referer_allow,
        secrets=secrets,
        cloudfront=_cloudfront(settings),
        refusals_per_minute=settings.limits.refusals_per_minute,
    )


def _cloudfront(settings: Settings) -> CloudFrontVerifier | None:
    """Returns the verifier of CloudFront's signatures; None where CloudFront is not set up."""
    cloudfront = settings.cloudfront
    keys: dict[str, PublicKey] = {}
    if cloudfront.public_keys:
        from gateway.playback.cloudfront_keys import load_keys

        keys = load_keys(cloudfront.public_keys)
    origin_secret = cloudfront.origin_secret.get_secret_value()
    if not keys and not origin_secret:
        return None
    return CloudFrontVerifier(keys, settings.playback.public_url, origin_secret)
