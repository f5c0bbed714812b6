"""Options: from settings, what the listeners of a gateway and those of an edge are made with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gateway.hub.access import Secrets, Verdict
from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, NotAuthorized
from gateway.hub.names import channel_of
from gateway.hub.ports import ChannelReader
from gateway.servers.cloudfront import CloudFront
from gateway.servers.http import HttpLimits
from gateway.servers.playback import Streams
from gateway.servers.protection import Protection
from gateway.servers.rtmp_door import PlayAccess, RtmpLimits
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.servers.signatures import PublicKey

TARGET_BYTES: Final = 8192  # of a request's target; its head's bound is a setting


def http_limits(settings: Settings) -> HttpLimits:
    """Of the playback listener."""
    http, limits = settings.http, settings.limits
    return HttpLimits(
        head_bytes=http.max_header,
        target_bytes=TARGET_BYTES,
        head_seconds=limits.handshake,
        keep_alive=http.keep_alive,
        stall_seconds=limits.viewer_stall,
        per_address=limits.playback_per_address,
    )


def rtmp_limits(settings: Settings) -> RtmpLimits:
    """Of RTMP connections."""
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


def protection(settings: Settings, secrets: Secrets) -> Protection:
    """Who may play over HTTP. Raises UnusableKey."""
    playback = settings.playback
    return Protection(
        auth=playback.auth,
        referers=playback.referer_allow,
        verify_play=secrets.verify_play,
        cloudfront=_cloudfront(settings),
        refusals_per_minute=settings.limits.refusals_per_minute,
    )


def _cloudfront(settings: Settings) -> CloudFront | None:
    """What verifies CloudFront's signatures, where it is set up."""
    cloudfront = settings.cloudfront
    keys: dict[str, PublicKey] = {}
    if cloudfront.public_keys:
        from gateway.servers.signatures import load_keys

        keys = load_keys(cloudfront.public_keys)
    origin_secret = cloudfront.origin_secret.get_secret_value()
    if not keys and not origin_secret:
        return None
    return CloudFront(keys, settings.playback.public_url, origin_secret)


def play_access(settings: Settings, streams: Streams, channels: ChannelReader, secrets: Secrets) -> PlayAccess:
    """Who may play over RTMP: whoever has a play sign where the channel wants one; what CloudFront protects is not
    played past it."""

    async def may_play(name: str, query: dict[str, str], address: str) -> None:
        stream = streams.find(name)
        channel = stream.channel if stream is not None else await _stored(channels, name)
        auth = (channel.play_auth if channel is not None else None) or settings.playback.auth
        if auth == "none":
            return
        verdict = Verdict.WRONG
        if auth == "sign":
            verdict = secrets.verify_play(channel_of(name), query.get("sign"), time.time())
        if verdict is not Verdict.VALID:
            raise NotAuthorized(str(verdict))

    return may_play


async def _stored(channels: ChannelReader, name: str) -> Channel | None:
    try:
        return await channels.get(channel_of(name))
    except NoSuchChannel:
        return None
