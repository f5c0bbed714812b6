"""Plays a stream of an RTMP(S) server."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, cast

from gateway.channels.names import pull_mark
from gateway.formats.flv.tag import ScriptTag
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.pull_parts import CONNECT_SECONDS, SILENCE_SECONDS, check_usable, peer_of, tls_for
from gateway.lib.egress import RTMP
from gateway.lib.outgoing import ConnectFailed, connect, os_error_text
from gateway.lib.tasks import Tasks
from gateway.live.flv_intake import FlvIntake
from gateway.live.publisher import StreamPublisher
from gateway.live.sound_to_aac import MakeConverter
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media.errors import InvalidData
from gateway.outputs.relay.redact_target import redact_text, target_secrets
from gateway.ports.errors import OutputError
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.client import ClientConnection, ClientRole, ConnectFeatures
from gateway.protocols.rtmp.command import AUDIO_FOURCCS, VIDEO_FOURCCS
from gateway.protocols.rtmp.events import Accepted, Ended, Rejected
from gateway.protocols.rtmp.message import AUDIO, VIDEO, Message
from gateway.protocols.rtmp.state import RtmpState
from gateway.protocols.rtmp.url import RtmpUrl, parse_url
from gateway.workers.sound_converter import converters

_CHECK_SECONDS: Final = 1.0
# The step whose answer is missing, by the state of the connection.
_PENDING: Final = {
    RtmpState.HANDSHAKING: "the handshake",
    RtmpState.CONNECTING: "connect",
    RtmpState.CREATING: "createStream",
    RtmpState.PLAY_PENDING: "play",
}


class _Refused(OutputError):
    """The server refused, with a text of its own. again: see Rejected."""

    def __init__(self, event: Rejected) -> None:
        super().__init__(str(event))
        self.again = event.again


class _EndedEarly(OutputError):
    """The server did not answer `connect`, or closed the connection later, but before the first unit."""


async def pull_rtmp(url: str, services: InputServices, context: InputContext) -> None:
    """Plays until the server ends the stream. Raises OutputError, EgressRefused, OSError."""
    try:
        target = parse_url(url)
    except ValueError as error:
        raise OutputError(str(error)) from None
    addresses, name = await services.egress.check(url, RTMP), context.channel.id

    async def play(tasks: Tasks, address: RtmpUrl, fourccs: Sequence[str]) -> None:
        features = ConnectFeatures(fourccs, pull_mark=pull_mark(name))

        def make() -> _RtmpPlay:
            client = ClientConnection(address, ClientRole.PLAY, features=features)
            return _RtmpPlay(client, context, peer_of(url), converters(services.workers, tasks, name))

        try:
            tls = tls_for("rtmps" if target.secure else "rtmp", services)
            playing = await connect(make, addresses, CONNECT_SECONDS, tls, services.egress.reads)
        except ConnectFailed as error:
            raise OutputError(str(error)) from None
        try:
            await playing.until_lost()
        except _Refused as refused:
            if refused.again is None:
                # The server may repeat the name of the stream, which is often a key.
                raise OutputError(redact_text(str(refused), target_secrets(url, target.name, target.app))) from None
            address = refused.again
        finally:
            playing.abort()
        await play(tasks, address, fourccs)

    async with Tasks("pull") as tasks:
        try:
            await play(tasks, target, (*VIDEO_FOURCCS, *AUDIO_FOURCCS))
        except _EndedEarly:
            # Older servers fail with the list; MediaMTX 1.20 does if the second sound is G.711.
            await play(tasks, target, ())


class _RtmpPlay(asyncio.Protocol):
    """The connection. Its media go to the publisher as they arrive."""

    def __init__(
        self, connection: ClientConnection, context: InputContext, peer: str, make_converter: MakeConverter
    ) -> None:
        self._make_converter = make_converter
        self._connection = connection
        self._context = context
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._publisher: StreamPublisher | None = None
        self._intake: FlvIntake | None = None
        self._last_media = self._opened = time.monotonic()
        self._lost: OutputError | None = None
        self._changed = asyncio.Event()

    async def until_lost(self) -> None:
        """Waits for the end. Raises OutputError with its reason; also if no media arrive."""
        while self._lost is None:
            now = time.monotonic()
            if self._intake is not None:
                check_usable(self._intake, self._opened, now)
            remaining = self._last_media + SILENCE_SECONDS - now
            if remaining <= 0:
                pending = _PENDING.get(self._connection.state)
                if self._connection.state is RtmpState.CONNECTING:
                    raise _EndedEarly("no answer to connect")
                raise OutputError(f"no answer to {pending}" if pending else f"no media for {SILENCE_SECONDS:.0f} s")
            try:
                async with asyncio.timeout(min(remaining, _CHECK_SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                continue  # media may have arrived in the meantime
        raise self._lost

    def abort(self) -> None:
        """Closes the connection and the publisher."""
        if self._intake is not None:
            self._intake.finish(time.monotonic())
        if self._publisher is not None:
            self._publisher.close()
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Reads messages. Hot path."""
        if self._lost is not None:
            return
        wall, now = time.time(), time.monotonic()
        try:
            for event in self._connection.receive(data):
                if isinstance(event, Message):
                    self._last_media = now
                    index = VIDEO_INDEX if event.type_id == VIDEO else AUDIO_INDEX
                    if event.type_id in (VIDEO, AUDIO):
                        self._open_intake().take_media(index, event.timestamp, event.payload, wall, now)
                elif isinstance(event, ScriptTag):
                    self._open_intake().take_script(event, now)
                elif isinstance(event, Accepted):
                    self._last_media = now
                elif isinstance(event, Rejected):
                    self._lose(_Refused(event))
                elif isinstance(event, Ended):
                    self._lose("the stream has ended")
        except RemoteProtocolError as error:
            self._lose(f"the server does not speak RTMP: {error}")
        except InvalidData as error:
            self._lose(f"its media are damaged: {error}")
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        pending = _PENDING.get(self._connection.state)
        reason = os_error_text(error) if isinstance(error, OSError) else "the server closed the connection"
        text = f"{reason} during {pending}" if pending else reason
        has_begun = self._intake is not None and self._intake.units
        self._lose(text if has_begun or self._connection.state is RtmpState.HANDSHAKING else _EndedEarly(text))

    def _open_intake(self) -> FlvIntake:
        if self._intake is None:
            self._publisher = self._context.publish(self._peer)
            self._intake, self._opened = FlvIntake(self._publisher, self._make_converter), time.monotonic()
        return self._intake

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _lose(self, reason: str | OutputError) -> None:
        if self._lost is None:
            self._lost = OutputError(reason) if isinstance(reason, str) else reason
            self._changed.set()
