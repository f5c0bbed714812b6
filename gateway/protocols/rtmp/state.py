"""The states of a connection and the allowed steps. All state changes are here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

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


_CLOSE = {Step.CLOSE: RtmpState.CLOSING}

SERVER: Mapping[RtmpState, Mapping[Step, RtmpState]] = {
    RtmpState.HANDSHAKING: {Step.HANDSHAKE: RtmpState.CONNECTING} | _CLOSE,
    RtmpState.CONNECTING: {Step.CONNECT: RtmpState.CONNECTED} | _CLOSE,
    RtmpState.CONNECTED: {
        Step.PUBLISH: RtmpState.PUBLISH_PENDING,
        Step.PLAY: RtmpState.PLAY_PENDING,
        Step.REJECT: RtmpState.CLOSING,
    }
    | _CLOSE,
    RtmpState.PUBLISH_PENDING: {
        Step.ACCEPT: RtmpState.PUBLISHING,
        Step.REJECT: RtmpState.CLOSING,
        Step.END: RtmpState.CONNECTED,
    }
    | _CLOSE,
    RtmpState.PUBLISHING: {Step.END: RtmpState.CONNECTED, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.PLAY_PENDING: {
        Step.ACCEPT: RtmpState.PLAYING,
        Step.REJECT: RtmpState.CLOSING,
        Step.END: RtmpState.CONNECTED,
    }
    | _CLOSE,
    RtmpState.PLAYING: {Step.END: RtmpState.CONNECTED, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.CLOSING: _CLOSE,
}

CLIENT: Mapping[RtmpState, Mapping[Step, RtmpState]] = {
    RtmpState.HANDSHAKING: {Step.HANDSHAKE: RtmpState.CONNECTING} | _CLOSE,
    RtmpState.CONNECTING: {Step.CONNECT: RtmpState.CREATING, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.CREATING: {
        Step.PUBLISH: RtmpState.PUBLISH_PENDING,
        Step.PLAY: RtmpState.PLAY_PENDING,
        Step.REJECT: RtmpState.CLOSING,
    }
    | _CLOSE,
    RtmpState.PUBLISH_PENDING: {Step.ACCEPT: RtmpState.PUBLISHING, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.PUBLISHING: {Step.END: RtmpState.CLOSING, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.PLAY_PENDING: {
        Step.ACCEPT: RtmpState.PLAYING,
        Step.REJECT: RtmpState.CLOSING,
        Step.END: RtmpState.CLOSING,
    }
    | _CLOSE,
    RtmpState.PLAYING: {Step.END: RtmpState.CLOSING, Step.REJECT: RtmpState.CLOSING} | _CLOSE,
    RtmpState.CLOSING: _CLOSE,
}


class StateMachine:
    """The current state and its table of transitions."""

    __slots__ = ("_table", "state")

    def __init__(self, table: Mapping[RtmpState, Mapping[Step, RtmpState]]) -> None:
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
