"""Opens RTMP and RTMPS with the configured ports."""

from __future__ import annotations

from gateway.channels.names import channel_of
from gateway.channels.stores import ChannelReader, find_channel
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.rtmp.listener import RtmpListener
from gateway.ingest.rtmp.services import PlayAccess, RtmpServices
from gateway.ingest.services import ListenerServices
from gateway.lib.quota import Quota
from gateway.playback.play_format import PlayableStreams
from gateway.playback.protection import PlaybackProtection


def open_rtmp(services: ListenerServices) -> OpenListeners:
    """Binds the ports. Raises ListenError."""
    settings = services.settings
    shared = RtmpServices(
        settings=settings.rtmp,
        limits=settings.limits,
        wait_for_publisher=settings.stream.wait_for_publisher,
        streams=services.streams,
        lease=services.lease,
        admission=services.admission,
        may_play=_play_access(services.protection, services.streams, services.channels),
        players=Quota(settings.limits.playback_per_address),
        tasks=services.tasks,
        reads=services.reads,
        pending=services.pending,
    )
    listeners = [
        RtmpListener(shared, address.host, address.port, settings.rtmp.proxy_from, tls, services.opener)
        for address, tls in services.addresses("rtmp")
    ]
    return OpenListeners(listeners, services.tasks)


def _play_access(protection: PlaybackProtection, streams: PlayableStreams, channels: ChannelReader) -> PlayAccess:
    """Returns the check for playback over RTMP: whether the play sign is valid, if the channel requires one.

    Streams that CloudFront protects cannot be played over RTMP.
    """

    async def may_play(name: str, query: dict[str, str], address: str | None) -> None:
        stream = streams.find(name)
        channel = stream.channel if stream is not None else await find_channel(channels, channel_of(name))
        protection.judge_sign(name, channel, query.get("sign"), address)

    return may_play
