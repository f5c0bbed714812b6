"""ClientConnection: the client side of an RTMP connection, to publish or to play. Reads bytes and returns events.

It sends the commands of Flash Media Live Encoder in their order, because every server was tested with that encoder.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.media.track import AmfValue
from gateway.protocols.errors import LocalProtocolError
from gateway.protocols.rtmp.authentication import WRONG, answer, is_demand
from gateway.protocols.rtmp.command import CAPS_MULTITRACK, PULL_MARK, Command, command, text_of
from gateway.protocols.rtmp.connection import Connection
from gateway.protocols.rtmp.events import Accepted, ClientEvent, CommandIgnored, Ended, Rejected
from gateway.protocols.rtmp.handshake import ClientHandshake
from gateway.protocols.rtmp.message import CSID, DATA, DATA_AMF3, USER_CONTROL, Message, UserControl, user_control
from gateway.protocols.rtmp.state import CLIENT, RtmpState, StateMachine, Step
from gateway.protocols.rtmp.url import RtmpUrl
from gateway.protocols.rtmp.wire import Wire, WireLimits

_CONNECT, _RELEASE, _FC_PUBLISH, _CREATE, _PUBLISH = 1.0, 2.0, 3.0, 4.0, 5.0
_WINDOW = 2_500_000  # bytes
_BUFFER_MS = 1000  # the announced buffer of the play side
_FLASH_VER = "FMLE/3.0 (compatible; Millrace)"
_STARTS = {RtmpState.PUBLISH_PENDING: "NetStream.Publish.Start", RtmpState.PLAY_PENDING: "NetStream.Play.Start"}
_ENDED_CODES = frozenset(  # of the play, or of the publish
    {"NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete", "NetStream.Unpublish.Success"}
)
# Answers to `publish` that refuse it, whatever their level: OBS knows them by their code, too.
_REFUSALS = frozenset(
    {
        *("NetStream.Publish.BadName", "NetStream.Publish.Denied", "NetStream.Publish.Rejected"),
        *("NetStream.Publish.Failed", "NetStream.Failed", "NetStream.Play.Failed", "NetStream.Play.StreamNotFound"),
    }
)
_Events = list[ClientEvent]


class ClientRole(Enum):
    PUBLISH = "publish"
    PLAY = "play"


@dataclass(frozen=True, slots=True)
class ConnectFeatures:
    """The properties that a client adds to its `connect`: features of Enhanced RTMP, and our own mark.

    fourccs: codecs ("hvc1", "av01" …). MediaMTX sends only these and H.264, AAC and MP3. To publish H.264 and AAC,
    leave it empty, because older servers fail with the list.
    multitrack: several tracks in one stream.
    pull_mark: for play, the mark of the channel that gets the media; "": none.
    """

    fourccs: Sequence[str] = ()
    multitrack: bool = False
    pull_mark: str = ""


class ClientConnection(Connection[ClientEvent]):
    """One connection to `url`, for one stream. Send `data_to_send` after construction and after every call.

    Events: `Accepted` when media may be sent or will follow. For play, `Message` for audio and video, and `Script`.
    `Rejected` if the server refuses, `Ended` if it ends the stream normally. After `Rejected`, `Ended` and
    RemoteProtocolError, the connection is `closing`: send the queued bytes, then close.

    chunk_size: for sending, up to 65536; some ingest services accept only 128 at first.
    features: added to `connect`. `takes_multitrack`: whether both sides announced multitrack.
    handshake: the default offers a digest.
    """

    def __init__(
        self,
        url: RtmpUrl,
        role: ClientRole,
        *,
        chunk_size: int = 4096,
        features: ConnectFeatures = ConnectFeatures(),
        limits: WireLimits | None = None,
        handshake: ClientHandshake | None = None,
    ) -> None:
        self._url = url
        self._role = role
        self._chunk_size = chunk_size
        self._features = features
        self.takes_multitrack = False
        handshake = handshake or ClientHandshake()
        super().__init__(handshake, Wire(limits or WireLimits()), StateMachine(CLIENT))
        self._wire.send_raw(handshake.data_to_send())

    # Publishing

    def send_media(self, type_id: int, timestamp: int, body: bytes) -> None:
        """Queues an FLV tag body as audio (8), video (9) or data (18) message. timestamp: milliseconds."""
        if self._machine.state is not RtmpState.PUBLISHING:
            raise LocalProtocolError(f"media while {self._machine.state.name.lower()}")
        self._wire.send(CSID[type_id], type_id, self.stream_id, body, timestamp)

    def finish(self) -> None:
        """Ends the publish or the play normally. Then the connection is closing."""
        if self._machine.state is RtmpState.PUBLISHING:
            self._send_command("FCUnpublish", 6.0, None, self._url.name)
        if self.stream_id:
            self._send_command("deleteStream", 7.0, None, float(self.stream_id))
        self._close("finished")

    # Messages

    def _read(self, messages: list[Message]) -> list[ClientEvent]:
        events: _Events = []
        for message in messages:
            self._dispatch(message, events)
            if self.closing:
                break
        return events

    def _on_handshake_done(self) -> None:
        properties: dict[str, AmfValue] = {"type": "nonprivate", "flashVer": _FLASH_VER}
        properties |= {"app": self._url.app + self._url.authentication, "tcUrl": self._url.tc_url}
        if self._role is ClientRole.PLAY:
            properties |= {"fpad": False, "capabilities": 15.0, "audioCodecs": 4071.0, "videoCodecs": 252.0}
            properties["videoFunction"] = 1.0
            if self._features.pull_mark:
                properties[PULL_MARK] = self._features.pull_mark
        if self._features.fourccs:
            properties["fourCcList"] = list(self._features.fourccs)
        if self._features.multitrack:
            properties["capsEx"] = float(CAPS_MULTITRACK)
        self._send_command("connect", _CONNECT, properties)

    def _handle_media(self, message: Message, events: _Events) -> None:
        if message.type_id in (DATA, DATA_AMF3):
            self._on_data(message, events)
        elif message.payload and self._accept_media(events):
            events.append(message)

    def _handle_control(self, message: Message, events: _Events) -> None:
        if message.type_id != USER_CONTROL or message.payload[:2] != b"\0\x01":
            super()._handle_control(message, events)
        elif self._machine.state is RtmpState.PLAYING:  # StreamEOF of the current play, not of an earlier one
            self._end("StreamEOF", events)

    def _accept_media(self, events: _Events) -> bool:
        """Returns whether media is expected.

        The first media also creates Accepted, because some servers omit NetStream.Play.Start.
        """
        if self._machine.state is RtmpState.PLAY_PENDING:
            self._machine.on_peer_step(Step.ACCEPT)
            events.append(Accepted())
        return self._machine.state is RtmpState.PLAYING

    def _on_data(self, message: Message, events: _Events) -> None:
        if self._role is ClientRole.PUBLISH:
            return
        event = self._wire.read_script(message)
        if isinstance(event, CommandIgnored) or event.name not in ("|RtmpSampleAccess", "onStatus"):
            events.append(event)

    def _handle_command(self, reply: Command, message: Message, events: _Events) -> None:
        if reply.name in ("_result", "_error"):
            self._on_result(reply, events)
        elif reply.name == "onStatus":
            info = reply.arguments[0] if reply.arguments else None
            self._on_status(info if isinstance(info, dict) else {}, events)
        elif reply.name == "close":
            self._reject("NetConnection.Connect.Closed", "the server closed", events)
        elif reply.name not in ("onBWDone", "onFCPublish", "onFCUnpublish", "onFCSubscribe"):
            events.append(CommandIgnored(reply.name[:64], "unknown"))

    def _on_result(self, reply: Command, events: _Events) -> None:
        failed = reply.name == "_error"
        state = self._machine.state
        if reply.transaction == _CONNECT and state is RtmpState.CONNECTING:
            if failed:
                self._reject_with(reply, "NetConnection.Connect.Rejected", events)
                return
            self._machine.on_peer_step(Step.CONNECT)
            self.takes_multitrack = self._features.multitrack and _announces_multitrack(reply)
            if self._chunk_size != self._wire.chunk_size:
                self._wire.send_chunk_size(self._chunk_size)
            if self._role is ClientRole.PUBLISH:
                self._send_command("releaseStream", _RELEASE, None, self._url.name)
                self._send_command("FCPublish", _FC_PUBLISH, None, self._url.name)
            else:
                self._wire.send_window(_WINDOW)
            self._send_command("createStream", _CREATE, None)
        elif reply.transaction == _CREATE and state is RtmpState.CREATING:
            if failed:
                self._reject_with(reply, "NetConnection.Call.Failed", events)
                return
            self.stream_id = int(min(max(reply.number(0, 1.0), 1.0), 0xFFFFFFFF))
            if self._role is ClientRole.PUBLISH:
                self._machine.on_own_step(Step.PUBLISH)
                self._send_command("publish", _PUBLISH, None, self._url.name, "live", stream_id=self.stream_id)
            else:
                self._machine.on_own_step(Step.PLAY)
                buffer = user_control(UserControl.SET_BUFFER_LENGTH, self.stream_id, _BUFFER_MS)
                self._send_command("play", 0.0, None, self._url.name, -2000.0, stream_id=self.stream_id)
                self._wire.send_control(USER_CONTROL, buffer)
        elif failed and reply.transaction == _PUBLISH:
            self._reject_with(reply, "NetStream.Publish.Failed", events)
        # Answers to releaseStream and FCPublish are ignored, because many servers refuse these commands.

    def _on_status(self, info: dict[str, AmfValue], events: _Events) -> None:
        code, level, description = (text_of(info, key) for key in ("code", "level", "description"))
        state = self._machine.state
        if level == "error":
            self._reject(code or "NetStream.Failed", description, events)
        elif _STARTS.get(state) == code:
            self._machine.on_peer_step(Step.ACCEPT)
            events.append(Accepted())
        elif state is RtmpState.PUBLISH_PENDING and code in _REFUSALS:
            self._reject(code, description, events)
        elif code in _ENDED_CODES and state in (RtmpState.PLAYING, RtmpState.PUBLISHING):
            self._end(code, events)
        elif code.startswith("NetConnection.Connect.") and code != "NetConnection.Connect.Success":
            self._reject(code, description, events)

    def _reject_with(self, reply: Command, code: str, events: _Events) -> None:
        info = next((v for v in (*reply.arguments, reply.object) if isinstance(v, dict) and "code" in v), {})
        assert isinstance(info, dict), "the generator yields only dicts"
        description = text_of(info, "description")
        again = None
        if is_demand(description):
            again = answer(self._url, description, os.urandom(4).hex())
            description = description if again is not None else WRONG
        self._reject(text_of(info, "code") or code, description, events, again)

    def _reject(self, code: str, description: str, events: _Events, again: RtmpUrl | None = None) -> None:
        events.append(Rejected(code, description, again))
        self._close(code)

    def _end(self, reason: str, events: _Events) -> None:
        events.append(Ended(reason))
        self._close(reason)

    def _send_command(self, name: str, transaction: float, *values: AmfValue, stream_id: int = 0) -> None:
        self._wire.send_command(stream_id, command(name, transaction, *values))


def _announces_multitrack(reply: Command) -> bool:
    """Whether the answer to `connect` announces Enhanced RTMP multitrack, in its properties or its information."""
    for values in (reply.object, *reply.arguments):
        caps = values.get("capsEx") if isinstance(values, dict) else None
        if isinstance(caps, int | float) and 0 <= caps < 1 << 31 and int(caps) & CAPS_MULTITRACK:
            return True
    return False
