"""ServerConnection: an RTMP connection seen from the server, bytes in, events out; its owner answers what is asked."""

from __future__ import annotations

from collections.abc import Sized
from typing import cast

from gateway.formats import amf0
from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError
from gateway.protocols.rtmp.command import Command, command, parse_command, status
from gateway.protocols.rtmp.events import CommandIgnored, ServerEvent
from gateway.protocols.rtmp.message import (
    AGGREGATE,
    AUDIO,
    COMMAND,
    COMMAND_AMF3,
    DATA,
    DATA_AMF3,
    USER_CONTROL,
    VIDEO,
    Message,
    UserControl,
    user_control,
)
from gateway.protocols.rtmp.session import Events, Session, short
from gateway.protocols.rtmp.state import State, Step

_CSID_STREAM_DATA = 7  # not CSID_DATA: that is for shared messages with full headers
_PUBLISHING = State.PUBLISHING
_CLOSING = State.CLOSING
_PENDING = (State.PUBLISH_PENDING, State.PLAY_PENDING)


class ServerConnection(Session):
    """One connection. Feed `receive`, act on the events, send `data_to_send` after each call of either kind.

    `receive` raises RemoteProtocolError for what breaks the protocol or a bound; then, and whenever `closing` is true,
    send what waits and close. After PublishRequested or PlayRequested the connection waits for its owner's answer:
    accept_publish or reject_publish, accept_play or reject_play. Until then all that the peer sends, except control
    messages, is held unread, up to `limits.early_media` bytes; accepting reads it and returns its events.

    apps: names of the app that `connect` may ask for. chunk_size: what we announce and send with.
    """

    # What the owner asks

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def closing(self) -> bool:
        """Send what waits, then close."""
        return self._machine.state is State.CLOSING

    @property
    def stream_id(self) -> int:
        """The message stream that publishes or plays: a small number."""
        return self._stream_id

    @property
    def chunk_size(self) -> int:
        """What `shared_message` has to cut at for this player."""
        return self._wire.chunk_size

    @property
    def received(self) -> int:
        """Bytes received, the handshake included."""
        return self._wire.received

    @property
    def waiting(self) -> Sized:
        """The one list of what waits to be sent, for a look that costs less than `data_to_send`: while a publisher
        sends media alone, nothing waits but an acknowledgement now and then."""
        return self._wire.waiting

    def data_to_send(self) -> bytes:
        """Bytes for the peer; empty when there are none."""
        if self._connect is not None:
            self._answer_connect()
        return self._wire.data_to_send()

    def receive(self, data: bytes) -> list[ServerEvent]:
        """Takes bytes of the peer; returns what they mean, nothing once `closing`. Raises RemoteProtocolError."""
        machine = self._machine
        state = machine.state
        if state is _CLOSING:
            return []
        try:
            if self._handshake is not None:
                data = self._shake(data)
                if not data:
                    return []
            messages = self._wire.receive(data)
            if state is _PUBLISHING:
                for message in messages:
                    if (message.type_id != VIDEO and message.type_id != AUDIO) or not message.payload:
                        break
                else:
                    return cast("Events", messages)  # hot: nothing but media
            events: Events = []
            for message in messages:
                if (message.type_id == VIDEO or message.type_id == AUDIO) and machine.state is _PUBLISHING:
                    if message.payload:  # §7.1.4 says nothing of empty ones; encoders send them as keep-alive
                        events.append(message)
                elif machine.state in _PENDING and message.type_id >= AUDIO:
                    self._hold(message)
                else:
                    self._dispatch(message, events)
                    if self.closing:
                        break
        except RemoteProtocolError as error:
            self._close(str(error))
            raise
        return events

    def eof(self) -> list[ServerEvent]:
        """The peer closed: ends what it published or played."""
        events: Events = []
        if not self.closing:
            self._end("connection closed", events)
            self._close("connection closed")
        return events

    def ping(self, stamp: int) -> None:
        """Asks for a sign of life; the answer is `Pinged(stamp modulo 2**32)`. Only after `Connected`."""
        self._wire.send_control(USER_CONTROL, user_control(UserControl.PING_REQUEST, stamp))

    # What the owner answers

    def reject_connect(self, code: str, description: str) -> None:
        """Refuses after Connected, e.g. NetConnection.Connect.Rejected; the connection is closing."""
        waiting, self._connect = self._connect, None
        self._machine.owner(Step.REJECT)
        if waiting is not None:
            info = status("error", code, description)
            self._wire.send_command(0, command("_error", waiting.transaction, None, info))
        self._refuse(0, code, description)

    def accept_publish(self) -> list[ServerEvent]:
        """The publish may begin. Returns the events of what the publisher sent while it waited.

        Raises RemoteProtocolError when that breaks the protocol, as `receive` does.
        """
        self._publish_step(Step.ACCEPT)
        self._trust(True)
        if self._fc_publish:
            info = status("status", "NetStream.Publish.Start", "Publishing.")
            self._wire.send_command(0, command("onFCPublish", 0, None, info))
        self._stream_event(UserControl.STREAM_BEGIN)
        self._status("status", "NetStream.Publish.Start", "Publishing.")
        return self._read_held()

    def reject_publish(self, code: str, description: str) -> None:
        """Refuses a publish, or ends a running one: onStatus with level error, then closing."""
        if self._machine.state is not _PUBLISHING:
            self._publish_step(Step.REJECT)
        else:
            self._machine.owner(Step.REJECT)
        self._refuse(self._stream_id, code, description)

    def accept_play(self) -> list[ServerEvent]:
        """The play may begin: from now on `shared_message` bytes for `stream_id` may be sent. As accept_publish."""
        self._play_step(Step.ACCEPT)
        self._stream_event(UserControl.STREAM_BEGIN)
        self._status("status", "NetStream.Play.Reset", "Playing and resetting.")
        self._status("status", "NetStream.Play.Start", "Started playing.")
        # Flash shows no picture without it; others ignore it.
        sample_access = amf0.encode("|RtmpSampleAccess", True, True)
        self._wire.send(_CSID_STREAM_DATA, DATA, self._stream_id, sample_access)
        return self._read_held()

    def reject_play(self, code: str, description: str) -> None:
        """Refuses a play with onStatus level error, e.g. NetStream.Play.StreamNotFound; closing."""
        self._play_step(Step.REJECT)
        self._refuse(self._stream_id, code, description)

    def end_play(self, reason: str) -> None:
        """The stream being played is over: UnpublishNotify and StreamEOF, then closing."""
        if self._machine.state is not State.PLAYING:
            raise LocalProtocolError(f"end of play while {self._machine.state.name.lower()}")
        self._status("status", "NetStream.Play.UnpublishNotify", "The stream is over.")
        self._stream_event(UserControl.STREAM_EOF)
        self._status("status", "NetStream.Play.Stop", "Stopped playing.")
        self._machine.owner(Step.END)
        self._close(reason)

    # Messages

    def _shake(self, data: bytes) -> bytes:
        handshake = self._handshake
        assert handshake is not None, "only called while there is one"
        rest = handshake.receive(data)
        self._wire.send_raw(handshake.data_to_send())
        self._wire.count(len(data) - len(rest))
        if handshake.done:
            self._handshake = None
            self._machine.peer(Step.HANDSHAKE)
        return rest

    def _hold(self, message: Message) -> None:
        self._stray(message)
        self._held.append(message)

    def _read_held(self) -> Events:
        events: Events = []
        held = self._held
        self._early_size = 0
        try:
            while held and not self.closing and self._machine.state not in _PENDING:
                self._dispatch(held.popleft(), events)
        except RemoteProtocolError as error:
            self._close(str(error))
            raise
        for message in held:  # those behind another request
            self._stray(message)
        return events

    def _stray(self, message: Message) -> None:
        self._early_size += len(message.payload) + 64
        if self._early_size > self._limits.early_media:
            state = self._machine.state.name.lower().replace("_", " ")
            raise RemoteProtocolError(f"more than {self._limits.early_media} bytes while {state}")

    def _dispatch(self, message: Message, events: Events) -> None:
        type_id = message.type_id
        if type_id in (AUDIO, VIDEO, DATA, DATA_AMF3):
            self._media(message, events)
        elif type_id in (COMMAND, COMMAND_AMF3):
            self._command(parse_command(message), message, events)
        elif type_id == AGGREGATE:
            for part in self._wire.split(message):
                self._media(part, events)
        elif type_id < AUDIO:
            event = self._wire.control(message)
            if event is not None:
                events.append(event)
        else:
            events.append(CommandIgnored(f"message type {type_id}", f"{len(message.payload)} bytes"))

    def _media(self, message: Message, events: Events) -> None:
        """Audio, video and data outside the hot path; before a publish and after its end they are dropped a while."""
        if not message.payload:
            return
        if self._machine.state is not State.PUBLISHING:
            self._stray(message)
        elif message.type_id in (AUDIO, VIDEO):
            events.append(message)
        else:
            events.append(self._wire.script(message))

    def _command(self, got: Command, message: Message, events: Events) -> None:
        if self._connect is not None:
            self._answer_connect()
        act = self._commands.get(got.name)
        if act is not None:
            if got.name != "connect" and self._machine.state is State.CONNECTING:
                raise RemoteProtocolError(f"{short(got.name)} before connect")
            act(got, message, events)
            return
        events.append(CommandIgnored(short(got.name), "unknown"))
        if got.transaction > 0 and not got.name.startswith(("_", "on")):
            self._result(got, None)  # whoever waits for an answer to its own invention must not wait for ever
