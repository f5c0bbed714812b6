"""Players over RTSP: each is a viewer of its stream's feed, over its connection or over UDP."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.packaging.feed import Feed
from gateway.packaging.rtsp_output import SSRCS, Channels, Described, RtspOutput
from gateway.packaging.services import PackagingServices
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import RTSP
from gateway.playback.play_format import FormatCode
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtsp.messages import interleaved

# Sends packets, by channel, to one player over UDP, as far as the kernel takes them.
SendPackets: TypeAlias = Callable[[Mapping[int, Sequence[bytes]]], None]


@dataclass(slots=True, eq=False)
class RtspPlayback:
    """A player of a stream. It uses the stream until `leave`.

    described: what the player was told. channels: those of its tracks. backlog: see RtspPlayback of RTMP.
    on_end: called once when the stream ends, or has other tracks than described.
    """

    stream: Stream
    output: RtspOutput
    described: Described
    backlog: int
    address: str
    on_end: Callable[[EndReason], None]
    _feed: Feed | None = field(default=None, init=False)
    _viewer: Viewer | None = field(default=None, init=False)
    _goodbye: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self.stream.playback.uses += 1

    def begin(self, channels: Channels, transport: asyncio.Transport, *, burst: bool) -> None:
        """Begins to send. burst: whether the GOP cache comes first, which UDP would lose."""
        self._feed = self.output.feed(self.described, channels)
        self._viewer = Viewer(transport, RTSP, self.backlog, self.address, self._ended)
        ssrcs = zip(channels, SSRCS.values(), strict=True)
        self._goodbye = b"".join(
            [
                interleaved(channel + 1, rtcp.receiver_report(ssrc, (), self.stream.name) + rtcp.bye(ssrc))
                for channel, ssrc in ssrcs
                if channel >= 0
            ]
        )
        self._feed.join(self._viewer, burst=burst)

    def leave(self) -> None:
        """Ends the playback. Called at most once."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None and self._feed is not None:
            self._feed.leave(viewer)
        self.stream.playback.uses -= 1

    def _ended(self, reason: EndReason) -> None:
        viewer = self._viewer
        if viewer is not None and not viewer.transport.is_closing():
            viewer.transport.write(self._goodbye)
        self.on_end(reason)


class UdpTransport(asyncio.Transport):
    """The UDP ports of a player as a feed sees them. Nothing waits here: what the kernel does not take is lost."""

    def __init__(self, output: RtspOutput, send: SendPackets, abort: Callable[[], None]) -> None:
        super().__init__()
        self._output, self._send, self._abort = output, send, abort
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert isinstance(data, bytes), "a feed writes views to plain sockets only"
        if not self._is_closing:
            self._send(self._output.packets(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = True
        self._abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def _packager(services: PackagingServices) -> Callable[[Stream], RtspOutput]:
    return lambda stream: RtspOutput(stream, lambda rendering: services.make_feed(stream, rendering))


CODE: Final = FormatCode(_packager)
