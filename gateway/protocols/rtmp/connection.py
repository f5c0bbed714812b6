"""Connection: the common part of the server side and the client side of an RTMP connection."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.command import Command, parse_command
from gateway.protocols.rtmp.handshake import Handshake
from gateway.protocols.rtmp.message import AGGREGATE, COMMANDS, MEDIA, USER_CONTROL, Message, UserControl, user_control
from gateway.protocols.rtmp.state import RtmpState, StateMachine, Step
from gateway.protocols.rtmp.wire import Wire

E = TypeVar("E")  # the events of one side


class Connection(ABC, Generic[E]):
    """The base of ServerConnection and ClientConnection: the handshake, the bytes to send, and the end.

    stream_id: the message stream that publishes or plays.
    close_reason: the reason why the connection is being closed; "" before that.
    """

    def __init__(self, handshake: Handshake, wire: Wire, machine: StateMachine) -> None:
        self._handshake: Handshake | None = handshake
        self._wire = wire
        self._machine = machine
        self.stream_id = 0
        self.close_reason = ""

    @property
    def state(self) -> RtmpState:
        return self._machine.state

    @property
    def closing(self) -> bool:
        """If true, send the queued bytes and close."""
        return self._machine.state is RtmpState.CLOSING

    @property
    def received(self) -> int:
        """Bytes received, including the handshake."""
        return self._wire.received

    def data_to_send(self) -> bytes:
        """Returns bytes for the peer; empty if there are none."""
        return self._wire.data_to_send()

    def receive(self, data: bytes) -> list[E]:
        """Returns the events of received bytes; none if `closing`. Raises RemoteProtocolError."""
        if self.closing:
            return []
        try:
            if self._handshake is not None:
                data = self._continue_handshake(self._handshake, data)
                if not data:
                    return []
            return self._read(self._wire.receive(data))
        except RemoteProtocolError as error:
            self._close(str(error))
            raise

    def ping(self, stamp: int) -> None:
        """Sends a ping with a 32-bit `stamp`. Like all received bytes, the answer shows that the peer is alive."""
        self._wire.send_control(USER_CONTROL, user_control(UserControl.PING_REQUEST, stamp))

    def _continue_handshake(self, handshake: Handshake, data: bytes) -> bytes:
        """Continues the handshake. Returns the bytes that follow it."""
        rest = handshake.receive(data)
        self._wire.send_raw(handshake.data_to_send())
        self._wire.received += len(data) - len(rest)  # acknowledgements count from the start of the connection
        if handshake.done:
            self._handshake = None
            self._machine.on_peer_step(Step.HANDSHAKE)
            self._on_handshake_done()
        return rest

    def _on_handshake_done(self) -> None:
        """Called when the handshake is done."""

    def _dispatch(self, message: Message, events: list[Any]) -> None:
        """Handles a message, and adds its events."""
        type_id = message.type_id
        if type_id in MEDIA:
            self._handle_media(message, events)
        elif type_id in COMMANDS:
            self._handle_command(parse_command(message), message, events)
        elif type_id == AGGREGATE:
            for part in self._wire.split(message):
                self._handle_media(part, events)
        else:
            self._handle_control(message, events)

    @abstractmethod
    def _read(self, messages: list[Message]) -> list[E]:
        """Returns the events of messages."""

    @abstractmethod
    def _handle_media(self, message: Message, events: list[Any]) -> None:
        """Handles audio, video and data."""

    @abstractmethod
    def _handle_command(self, request: Command, message: Message, events: list[Any]) -> None:
        """Handles a command."""

    def _handle_control(self, message: Message, events: list[Any]) -> None:
        event = self._wire.handle_control(message)
        if event is not None:
            events.append(event)

    def _close(self, reason: str) -> None:
        self._machine.on_own_step(Step.CLOSE)
        self.close_reason = self.close_reason or reason
