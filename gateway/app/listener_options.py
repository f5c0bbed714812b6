"""Derives the options of the listeners of a gateway and of an edge from the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gateway.channels.stream_key import SigningSecrets
from gateway.http.connection import HttpLimits
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.protection import PlaybackProtection
from gateway.settings import Settings

if TYPE_CHECKING:
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
