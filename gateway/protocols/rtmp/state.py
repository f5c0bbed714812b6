"""The states of a connection, and the tables of the steps that each state allows. All state changes are here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError


class RtmpState(Enum):
    HANDSHAKING = auto()
    CONNECTING = auto()  # the handshake is done; waits for `connect` (server) or its answer (client)
    CONNECTED = auto()
    CREATING = auto()  # client: createStream was sent
    PUBLISH_PENDING = auto()
    PUBLISHING = auto()
    PLAY_PENDING = auto()
    PLAYING = auto()
    CLOSING = auto()  # the waiting bytes are sent, then the connection is closed; nothing is read any more


class Step(Enum):
    """Steps that change the state. A missing entry is a fault of the peer for its steps, and a bug for the owner's
    steps.
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


class Machine:
    """The current state and its table of transitions."""

    __slots__ = ("_table", "state")

    def __init__(self, table: Mapping[RtmpState, Mapping[Step, RtmpState]]) -> None:
        self._table = table
        self.state = RtmpState.HANDSHAKING

    def may(self, step: Step) -> bool:
        return step in self._table[self.state]

    def peer(self, step: Step) -> None:
        """Takes a step of the peer. Raises RemoteProtocolError if the state does not allow it."""
        after = self._table[self.state].get(step)
        if after is None:
            raise RemoteProtocolError(f"{step.name.lower()} while {self.state.name.lower().replace('_', ' ')}")
        self.state = after

    def owner(self, step: Step) -> None:
        """Takes a step of the connection's owner. Raises LocalProtocolError if the state does not allow it."""
        after = self._table[self.state].get(step)
        if after is None:
            raise LocalProtocolError(f"{step.name.lower()} while {self.state.name.lower().replace('_', ' ')}")
        self.state = after
