"""The states of a connection and the allowed steps. All state changes are here."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeAlias

from gateway.protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError


class RtmpState(Enum):
    HANDSHAKING = auto()
    CONNECTING = auto()  # the handshake is done; the server waits for `connect`, the client for its answer
    CONNECTED = auto()
    CREATING = auto()  # client: createStream was sent
    PUBLISH_PENDING = auto()
    PUBLISHING = auto()
    PLAY_PENDING = auto()
    PLAYING = auto()
    CLOSING = auto()  # queued bytes are sent, then the connection closes; input is ignored


class Step(Enum):
    """Steps that change the state.

    If the state does not allow a step of the peer, the peer is wrong. If it does not allow a step of this side, this
    side has a bug.
    """

    HANDSHAKE = auto()
    CONNECT = auto()
    CREATE = auto()
    PUBLISH = auto()
    PLAY = auto()
    ACCEPT = auto()
    REJECT = auto()
    END = auto()
    CLOSE = auto()


Transitions: TypeAlias = Mapping[RtmpState, Mapping[Step, RtmpState]]

_CLOSE = {Step.CLOSE: RtmpState.CLOSING}
_REJECT = {Step.REJECT: RtmpState.CLOSING} | _CLOSE
_REQUESTS = {Step.PUBLISH: RtmpState.PUBLISH_PENDING, Step.PLAY: RtmpState.PLAY_PENDING} | _REJECT

SERVER: Transitions = {
    RtmpState.HANDSHAKING: {Step.HANDSHAKE: RtmpState.CONNECTING} | _CLOSE,
    RtmpState.CONNECTING: {Step.CONNECT: RtmpState.CONNECTED} | _CLOSE,
    RtmpState.CONNECTED: _REQUESTS,
    RtmpState.PUBLISH_PENDING: {Step.ACCEPT: RtmpState.PUBLISHING, Step.END: RtmpState.CONNECTED} | _REJECT,
    RtmpState.PUBLISHING: {Step.END: RtmpState.CONNECTED} | _REJECT,
    RtmpState.PLAY_PENDING: {Step.ACCEPT: RtmpState.PLAYING, Step.END: RtmpState.CONNECTED} | _REJECT,
    RtmpState.PLAYING: {Step.END: RtmpState.CONNECTED} | _REJECT,
    RtmpState.CLOSING: _CLOSE,
}

CLIENT: Transitions = {
    RtmpState.HANDSHAKING: {Step.HANDSHAKE: RtmpState.CONNECTING} | _CLOSE,
    RtmpState.CONNECTING: {Step.CONNECT: RtmpState.CREATING} | _REJECT,
    RtmpState.CREATING: _REQUESTS,
    RtmpState.PUBLISH_PENDING: {Step.ACCEPT: RtmpState.PUBLISHING} | _REJECT,
    RtmpState.PUBLISHING: {Step.END: RtmpState.CLOSING} | _REJECT,
    RtmpState.PLAY_PENDING: {Step.ACCEPT: RtmpState.PLAYING, Step.END: RtmpState.CLOSING} | _REJECT,
    RtmpState.PLAYING: {Step.END: RtmpState.CLOSING} | _REJECT,
    RtmpState.CLOSING: _CLOSE,
}


class StateMachine:
    """The current state and its table of transitions."""

    __slots__ = ("_table", "state")

    def __init__(self, table: Transitions) -> None:
        self._table = table
        self.state = RtmpState.HANDSHAKING

    def allows(self, step: Step) -> bool:
        return step in self._table[self.state]

    def on_peer_step(self, step: Step) -> None:
        """Applies a step of the peer. Raises RemoteProtocolError if the state does not allow it."""
        self._apply(step, RemoteProtocolError)

    def on_own_step(self, step: Step) -> None:
        """Applies a step of this side. Raises LocalProtocolError if the state does not allow it."""
        self._apply(step, LocalProtocolError)

    def _apply(self, step: Step, error: type[ProtocolError]) -> None:
        next_state = self._table[self.state].get(step)
        if next_state is None:
            raise error(f"{step.name.lower()} while {self.state.name.lower().replace('_', ' ')}")
        self.state = next_state
