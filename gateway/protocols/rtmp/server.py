"""ServerConnection: the server side of an RTMP connection: takes bytes, returns events; its owner answers requests."""

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
from gateway.protocols.rtmp.session import Events, ServerSession, short
from gateway.protocols.rtmp.state import RtmpState, Step

_CSID_STREAM_DATA = 7  # not CSID_DATA, which is for shared messages with full headers
_HELD_MESSAGE = 128  # bytes that a held message costs beside its payload
_PUBLISHING = RtmpState.PUBLISHING
_CLOSING = RtmpState.CLOSING
_PENDING = (RtmpState.PUBLISH_PENDING, RtmpState.PLAY_PENDING)


class ServerConnection(ServerSession):
    """One connection. Call `receive`, handle the events, and send `data_to_send` after each call of any method.

    `receive` raises RemoteProtocolError if the peer breaks the protocol or a bound. Then, and whenever `closing` is
    true, send the waiting bytes and close.
    After PublishRequested or PlayRequested the connection waits for its owner's answer: accept_publish or
    reject_publish, accept_play or reject_play. Until then all messages of the peer, except control messages, are held
    unread, up to `limits.early_media` bytes. Accepting reads them and returns their events.
    `held` is the number of bytes held now, `asked` the number of messages other than media so far. The owner, which has
    a clock, must bound both.

    apps: names of the app that `connect` may ask for.
    chunk_size: the size that we announce and send with.
    """

    # Queries and input

    @property
    def state(self) -> RtmpState:
        return self._machine.state

    @property
    def closing(self) -> bool:
        """True: send the waiting bytes, then close."""
        return self._machine.state is RtmpState.CLOSING

    @property
    def stream_id(self) -> int:
        """The message stream that publishes or plays: a small number."""
        return self._stream_id

    @property
    def chunk_size(self) -> int:
        """The chunk size for `shared_message` for this player."""
        return self._wire.chunk_size

    @property
    def received(self) -> int:
        """Bytes received, the handshake included."""
        return self._wire.received

    @property
    def held(self) -> int:
        """Bytes of the peer that are kept: of its handshake, of unfinished messages, of messages before an answer."""
        shaking = self._handshake
        return self._wire.pending + self._held_size + (shaking.buffered if shaking is not None else 0)

    @property
    def waiting(self) -> Sized:
        """The list of bytes to send, for a check that is cheaper than `data_to_send`.

        While a publisher sends only media, it is empty except for rare acknowledgements.
        """
        return self._wire.waiting

    def data_to_send(self) -> bytes:
        """Returns bytes for the peer; empty if there are none."""
        if self._connect is not None:
            self._answer_connect()
        return self._wire.data_to_send()

    def receive(self, data: bytes) -> list[ServerEvent]:
        """Takes bytes of the peer; returns their events, none once `closing`. Raises RemoteProtocolError."""
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
                    if message.payload:  # §7.1.4 does not define empty ones; encoders send them as keep-alive
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
        """Handles that the peer closed the connection: ends its publish or play, and returns the events."""
        events: Events = []
        if not self.closing:
            self._end("connection closed", events)
            self._close("connection closed")
        return events

    def forget(self) -> None:
        """Frees the kept data at once when the connection is closed, without waiting for the garbage collector."""
        if not self.closing:
            self._close("connection closed")
        self._commands.clear()

    def ping(self, stamp: int) -> None:
        """Sends a ping; the answer is `Pinged(stamp modulo 2**32)`. Only after `Connected`."""
        self._wire.send_control(USER_CONTROL, user_control(UserControl.PING_REQUEST, stamp))

    # Answers of the owner

    def accept_publish(self) -> list[ServerEvent]:
        """Accepts the publish. Returns the events of the messages that were held.

        Raises RemoteProtocolError if those break the protocol, as `receive` does.
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
        """Refuses a publish, or ends a running one: sends onStatus with level error; then the connection is closing."""
        if self._machine.state is not _PUBLISHING:
            self._publish_step(Step.REJECT)
        else:
            self._machine.owner(Step.REJECT)
        self._refuse(self._stream_id, code, description)

    def accept_play(self) -> list[ServerEvent]:
        """Accepts the play: from now on `shared_message` bytes for `stream_id` may be sent. Returns as
        accept_publish.
        """
        self._play_step(Step.ACCEPT)
        self._stream_event(UserControl.STREAM_BEGIN)
        self._status("status", "NetStream.Play.Reset", "Playing and resetting.")
        self._status("status", "NetStream.Play.Start", "Started playing.")
        # Flash shows no picture without it; other players ignore it.
        sample_access = amf0.encode("|RtmpSampleAccess", True, True)
        self._wire.send(_CSID_STREAM_DATA, DATA, self._stream_id, sample_access)
        return self._read_held()

    def reject_play(self, code: str, description: str) -> None:
        """Refuses a play with onStatus level error, for example NetStream.Play.StreamNotFound; then the connection is
        closing.
        """
        self._play_step(Step.REJECT)
        self._refuse(self._stream_id, code, description)

    def end_play(self, reason: str) -> None:
        """Ends the play because the stream is over: sends UnpublishNotify and StreamEOF; then the connection is
        closing.
        """
        if self._machine.state is not RtmpState.PLAYING:
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
        self._held_size += len(message.payload) + _HELD_MESSAGE
        if self._held_size > self._limits.early_media:
            raise self._too_much(self._limits.early_media)
        self._held.append(message)

    def _read_held(self) -> Events:
        events: Events = []
        held = self._held
        self._held_size = self._stray_size = 0
        try:
            while held and not self.closing and self._machine.state not in _PENDING:
                self._dispatch(held.popleft(), events)
        except RemoteProtocolError as error:
            self._close(str(error))
            raise
        for message in held:  # messages after another request
            self._held_size += len(message.payload) + _HELD_MESSAGE
        return events

    def _stray(self, message: Message) -> None:
        self._stray_size += len(message.payload) + _HELD_MESSAGE
        if self._stray_size > self._limits.stray_media:
            raise self._too_much(self._limits.stray_media)

    def _too_much(self, bound: int) -> RemoteProtocolError:
        state = self._machine.state.name.lower().replace("_", " ")
        return RemoteProtocolError(f"more than {bound} bytes while {state}")

    def _dispatch(self, message: Message, events: Events) -> None:
        type_id = message.type_id
        self.asked += 1
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
        """Handles audio, video and data outside the hot path. Before and after a publish they are dropped, up to a
        bound.
        """
        if not message.payload:
            return
        if self._machine.state is not RtmpState.PUBLISHING:
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
            if got.name != "connect" and self._machine.state is RtmpState.CONNECTING:
                raise RemoteProtocolError(f"{short(got.name)} before connect")
            act(got, message, events)
            return
        events.append(CommandIgnored(short(got.name), "unknown"))
        if got.transaction > 0 and not got.name.startswith(("_", "on")):
            self._result(got, None)  # a client that waits for the answer to an unknown command must not wait for ever
