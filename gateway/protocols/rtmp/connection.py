"""Connection: what both sides of an RTMP connection do in the same way."""

from __future__ import annotations

from gateway.media.track import AmfValue
from gateway.protocols.rtmp.handshake import Handshake
from gateway.protocols.rtmp.message import USER_CONTROL, UserControl, user_control
from gateway.protocols.rtmp.state import Machine, RtmpState, Step
from gateway.protocols.rtmp.wire import Wire


class Connection:
    """The base of ServerConnection and ClientConnection: the handshake, the bytes to send, and the end."""

    def __init__(self, handshake: Handshake, wire: Wire, machine: Machine) -> None:
        self._handshake: Handshake | None = handshake
        self._wire = wire
        self._machine = machine
        self._stream_id = 0  # the message stream that publishes or plays
        self.close_reason = ""
        """Why the connection is being closed; empty while it is not."""

    @property
    def state(self) -> RtmpState:
        return self._machine.state

    @property
    def closing(self) -> bool:
        """True: send the waiting bytes, then close."""
        return self._machine.state is RtmpState.CLOSING

    @property
    def received(self) -> int:
        """Bytes received, the handshake included."""
        return self._wire.received

    def data_to_send(self) -> bytes:
        """Returns bytes for the peer; empty if there are none."""
        return self._wire.data_to_send()

    def ping(self, stamp: int) -> None:
        """Asks for a sign of life; the answer is a `Pinged` with the same 32-bit `stamp`."""
        self._wire.send_control(USER_CONTROL, user_control(UserControl.PING_REQUEST, stamp))

    def _shake(self, handshake: Handshake, data: bytes) -> bytes:
        """Takes bytes for the handshake; returns those that follow it."""
        rest = handshake.receive(data)
        self._wire.send_raw(handshake.data_to_send())
        self._wire.count(len(data) - len(rest))
        if handshake.done:
            self._handshake = None
            self._machine.peer(Step.HANDSHAKE)
            self._shaken()
        return rest

    def _shaken(self) -> None:
        """Called when the handshake is done."""

    def _close(self, reason: str) -> None:
        self._machine.owner(Step.CLOSE)
        self.close_reason = self.close_reason or reason


def text_of(values: dict[str, AmfValue], key: str) -> str:
    """Returns a text of an AMF object; empty where there is none."""
    value = values.get(key)
    return value if isinstance(value, str) else ""
