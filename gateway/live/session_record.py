"""The item that describes a live session in the DynamoDB table `video-streaming` of the old system."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.channels.addresses import APP, OpenPorts
from gateway.channels.channel import Channel

_FLAGS: Final = ("isFlv", "isHls", "isCMAF", "isImage", "isOnDemand", "isVideo", "isCluster")


def session_item(
    channel: Channel, address: str, started: float, tasks: Sequence[str] = (), ports: OpenPorts | None = None
) -> dict[str, Any]:
    """Returns the attributes of a session, with the names of the old system, except the key `UUID`.

    The URL is the internal one of the old system: RTMPS if the channel asks for it and the node has it, otherwise RTMP.
    address: `host:port` at which other nodes reach the playback listener of the node that holds the stream.
    ports: the open ports of that node; None: the standard ports.
    started: seconds since 1970.
    tasks: the ARNs of the ECS tasks for this session.
    """
    host = address.rpartition(":")[0]
    ports = ports if ports is not None else OpenPorts(rtmp=1935, rtmps=1938)
    scheme = "rtmps" if channel.is_rtmps and ports["rtmps"] is not None else "rtmp"
    return {
        "URL": f"{scheme}://{host}:{ports[scheme]}/{APP}/{channel.id}",
        "startTime": datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M"),
        "Streamkey": channel.key,
        "Name": channel.name,
        **{flag: channel.flag(flag) for flag in _FLAGS},
        "ServerAddress": host.removeprefix("[").removesuffix("]"),
        "taskARN": list(tasks),
    }
