"""Players over SRT: each is a viewer of its stream's feed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.fields import IS_ENCRYPTED
from gateway.channels.names import is_stream_name
from gateway.channels.stores import find_channel
from gateway.live.stream import Stream
from gateway.packaging.backlog import SECONDS
from gateway.packaging.services import PackagingServices
from gateway.packaging.ts.continuous import SrtOutput, can_carry
from gateway.packaging.viewer import Viewer
from gateway.playback.framing import SRT
from gateway.playback.play import Play, PlayAdmission, ViewerRequest
from gateway.playback.play_format import FormatCode
from gateway.playback.playable_streams import PlayableStreams
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import GatewayError, StoreUnavailable
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import PAYLOAD, Reject
from gateway.protocols.srt.send_buffer import KEEP
from gateway.protocols.srt.stream_id import StreamId
from gateway.settings import Settings
from gateway.srt.link import Direction, SrtLink
from gateway.srt.refusals import rejected

log = structlog.get_logger(__name__)

_MAX_WAIT: Final = 2.5  # seconds for the publisher: libsrt waits 3 s for an answer, and then reports a time-out


class SrtPlay:
    """A request to play, and its viewer. Implements SrtRequest and SrtUser."""

    direction: Final = Direction.PLAY

    def __init__(
        self, admission: PlayAdmission, streams: PlayableStreams, settings: Settings, asked: StreamId, address: str
    ) -> None:
        """Raises HandshakeRefused for a name that cannot exist."""
        if not is_stream_name(asked.name):
            raise HandshakeRefused(Reject.BAD_REQUEST, "not a name of a stream")
        self._settings = settings
        details = HookDetails("&".join(f"{key}={value}" for key, value in asked.query.items()))
        self._play = Play(admission, streams, ViewerRequest(asked.name, address, asked.query.get("sign"), details))
        self._link: SrtLink | None = None
        self._viewer: Viewer | None = None
        self._output: SrtOutput | None = None

    async def check(self) -> str:
        try:
            stream = await self._play.wait(_MAX_WAIT)
        except GatewayError as error:
            raise rejected(error) from None
        return await self._passphrase(stream.channel)

    async def _passphrase(self, channel: Channel) -> str:
        """Returns the passphrase of a channel. Of another node's stream, the store has it. Raises HandshakeRefused."""
        if channel.item.get(IS_ENCRYPTED):
            with contextlib.suppress(StoreUnavailable):
                channel = await find_channel(self._play.admission.channels, channel.id) or channel
            if not channel.srt_passphrase:
                raise HandshakeRefused(Reject.FORBIDDEN, "only nodes with the store of channels know the passphrase")
        return channel.srt_passphrase or self._settings.srt.passphrase.get_secret_value()

    def refuse(self, reason: str) -> None:
        """Does nothing: the owner learns of refused pushes only."""

    async def begin(self, link: SrtLink) -> SrtPlay:
        try:
            stream = await self._play.begin(_MAX_WAIT)
        except GatewayError as error:
            raise rejected(error) from None
        output, tracks = stream.output("srt"), stream.tracks
        # Not an SrtOutput: it failed, and will be started again.
        if not isinstance(output, SrtOutput) or (tracks is not None and not can_carry(tracks)):
            raise HandshakeRefused(Reject.NOT_SUPPORTED, "a transport stream cannot carry these codecs")
        self._output, self._link = output, link
        self._viewer = Viewer(
            *(SrtTransport(link, output), SRT, self._settings.limits.viewer_backlog, link.peer),
            lambda reason: link.close(str(reason)),
            seconds=max(SECONDS, KEEP * link.connection.agreement.send_latency),
        )
        asyncio.get_running_loop().call_soon(self._join)  # the answer to the caller comes first
        return self

    def _join(self) -> None:
        if self._viewer is not None and self._output is not None:
            self._output.feed.join(self._viewer)

    def abandon(self) -> None:
        self._play.end()

    # ---- SrtUser ----

    def receive(self, payloads: list[bytes], now: float) -> None:
        """Ignores the payloads: a player sends none."""

    def tick(self, now: float) -> None:
        """Ends a player that acknowledges nothing. SRT drops what a slow one does not take in time."""
        if self._link is None or self._output is None:
            return
        since = self._link.connection.sent.unanswered_since
        if since is not None and self._output.feed.count_stalled(now - since):
            self._link.close("acknowledges nothing")

    def closed(self, reason: str) -> None:
        viewer, self._viewer = self._viewer, None
        if viewer is not None and self._output is not None:
            self._output.feed.leave(viewer)
        self._play.end()


class SrtTransport(asyncio.Transport):
    """The connection as a feed sees it: bytes of whole packets in, payloads out, which all players share."""

    def __init__(self, link: SrtLink, output: SrtOutput) -> None:
        super().__init__()
        self._link, self._output = link, output

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert isinstance(data, bytes), "a feed writes views to plain sockets only"
        self._link.push(self._output.payloads(data))

    def get_write_buffer_size(self) -> int:
        """Returns the bytes that the player has not acknowledged, about."""
        return self._link.connection.sent.held * PAYLOAD

    def is_closing(self) -> bool:
        return bool(self._link.connection.ended)

    def abort(self) -> None:
        self._link.close("does not read")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def _packager(services: PackagingServices) -> Callable[[Stream], SrtOutput]:
    return lambda stream: SrtOutput(lambda rendering: services.make_feed(stream, rendering), stream.latest_timed.values)


CODE: Final = FormatCode(_packager)
