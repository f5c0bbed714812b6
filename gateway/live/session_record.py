"""The item that describes a live session in the original system's table `video-streaming`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.channels.addresses import APP
from gateway.channels.channel import Channel

_FLAGS: Final = ("isFlv", "isHls", "isCMAF", "isImage", "isOnDemand", "isVideo", "isCluster")


def session_item(channel: Channel, address: str, started: float, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the attributes of a session by their original names, except the key `UUID`, which is the channel's id.

    address: `host:port` of the holder's playback listener as other nodes reach it.
    started: seconds since the epoch.
    tasks: the ARNs of the ECS tasks for this session.
    The URL is the internal one of the original, with its ports 1935 and 1938.
    """
    host = address.rpartition(":")[0]
    base = f"rtmps://{host}:1938" if channel.is_rtmps else f"rtmp://{host}:1935"
    return {
        "URL": f"{base}/{APP}/{channel.id}",
        "startTime": datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M"),
        "Streamkey": channel.key,
        "Name": channel.name,
        **{flag: channel.flag(flag) for flag in _FLAGS},
        "ServerAddress": host.removeprefix("[").removesuffix("]"),
        "taskARN": list(tasks),
    }
