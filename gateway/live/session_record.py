"""The item that describes a live session in the DynamoDB table `video-streaming` of the old system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.channels.addresses import APP
from gateway.channels.channel import Channel

_FLAGS: Final = ("isFlv", "isHls", "isCMAF", "isImage", "isOnDemand", "isVideo", "isCluster")


def session_item(channel: Channel, address: str, started: float, tasks: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the attributes of a session, with the names of the old system; without the key `UUID` (the channel's id).

    The URL is the internal URL of the old system, with its ports 1935 and 1938.
    address: `host:port` at which other nodes reach the playback listener of the node that holds the stream.
    started: seconds since the epoch.
    tasks: the ARNs of the ECS tasks for this session.
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
