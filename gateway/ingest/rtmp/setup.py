"""Opens RTMP and RTMPS as the settings say."""

from __future__ import annotations

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.channels.stores import ChannelReader
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.rtmp.listener import RtmpListener
from gateway.ingest.rtmp.services import PlayAccess, RtmpLimits, RtmpServices
from gateway.ingest.services import ListenerServices
from gateway.lib.quota import Quota
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import PlayableStreams
from gateway.ports.errors import NoSuchChannel
from gateway.settings import Settings


def open_rtmp(services: ListenerServices) -> OpenListeners:
    """Binds the ports. Raises ListenError."""
    settings = services.settings
    shared = RtmpServices(
        streams=services.streams,
        lease=services.lease,
        admission=services.admission,
        may_play=_play_access(services.protection, services.streams, services.channels),
        players=Quota(settings.limits.playback_per_address),
        limits=_limits(settings),
        tasks=services.tasks,
        reads=services.reads,
        pending=services.pending,
    )
    proxies = settings.rtmp.proxy_from
    found = [
        RtmpListener(shared, one.host, one.port, proxies, tls, services.opener)
        for one, tls in services.addresses("rtmp")
    ]
    return OpenListeners(found, services.tasks)


def _limits(settings: Settings) -> RtmpLimits:
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


def _play_access(protection: PlaybackProtection, streams: PlayableStreams, channels: ChannelReader) -> PlayAccess:
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
