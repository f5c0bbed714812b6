"""Derives the options of the listeners of a gateway and of an edge from the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.channels.stores import ChannelReader
from gateway.channels.stream_key import SigningSecrets
from gateway.http.connection import HttpLimits
from gateway.ingest.rtmp.services import PlayAccess, RtmpLimits
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import PlayableStreams
from gateway.ports.errors import NoSuchChannel
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


def rtmp_limits(settings: Settings) -> RtmpLimits:
    """Returns the limits of RTMP connections."""
    rtmp, limits = settings.rtmp, settings.limits
    return RtmpLimits(
        chunk_size=rtmp.chunk_size,
        message=limits.rtmp_message,
        handshake=limits.handshake,
        first_media=limits.first_media,
        ping_interval=rtmp.ping_interval,
        ping_timeout=rtmp.ping_timeout,
        idle_timeout=rtmp.idle_timeout,
        wait_for_publisher=settings.stream.wait_for_publisher,
        viewer_backlog=limits.viewer_backlog,
    )


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


def play_access(protection: PlaybackProtection, streams: PlayableStreams, channels: ChannelReader) -> PlayAccess:
    """Returns the check for playback over RTMP: a play sign is needed where the channel requires one.

    Streams that CloudFront protects cannot be played over RTMP.
    """

    async def may_play(name: str, query: dict[str, str], address: str | None) -> None:
        stream = streams.find(name)
        channel = stream.channel if stream is not None else await _stored(channels, name)
        protection.judge_sign(name, channel, query.get("sign"), address)

    return may_play


async def _stored(channels: ChannelReader, name: str) -> Channel | None:
    try:
        return await channels.get(channel_of(name))
    except NoSuchChannel:
        return None
