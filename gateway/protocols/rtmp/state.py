"""The states of a connection and the tables of what may happen in each; everything that moves a state is in here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from gateway.protocols.errors import LocalProtocolError, RemoteProtocolError


class State(Enum):
    HANDSHAKING = auto()
    CONNECTING = auto()  # the handshake is done, `connect` is awaited (server) or its answer (client)
    CONNECTED = auto()
    CREATING = auto()  # client: createStream is asked
    PUBLISH_PENDING = auto()
    PUBLISHING = auto()
    PLAY_PENDING = auto()
    PLAYING = auto()
    CLOSING = auto()  # what is to be sent is sent, then the connection is closed; nothing is read any more


class Step(Enum):
    """What moves a state. Steps of the peer that have no entry are its error, those of the owner ours."""

    HANDSHAKE = auto()
    CONNECT = auto()
    CREATE = auto()
    PUBLISH = auto()
    PLAY = auto()
    ACCEPT = auto()
    REJECT = auto()
    END = auto()
    CLOSE = auto()


_CLOSE = {Step.CLOSE: State.CLOSING}

SERVER: Mapping[State, Mapping[Step, State]] = {
    State.HANDSHAKING: {Step.HANDSHAKE: State.CONNECTING} | _CLOSE,
    State.CONNECTING: {Step.CONNECT: State.CONNECTED} | _CLOSE,
    State.CONNECTED: {Step.PUBLISH: State.PUBLISH_PENDING, Step.PLAY: State.PLAY_PENDING, Step.REJECT: State.CLOSING}
    | _CLOSE,
    State.PUBLISH_PENDING: {
        Step.ACCEPT: State.PUBLISHING,
        Step.REJECT: State.CLOSING,
        Step.END: State.CONNECTED,
    }
    | _CLOSE,
    State.PUBLISHING: {Step.END: State.CONNECTED, Step.REJECT: State.CLOSING} | _CLOSE,
    State.PLAY_PENDING: {Step.ACCEPT: State.PLAYING, Step.REJECT: State.CLOSING, Step.END: State.CONNECTED} | _CLOSE,
    State.PLAYING: {Step.END: State.CONNECTED, Step.REJECT: State.CLOSING} | _CLOSE,
    State.CLOSING: _CLOSE,
}

CLIENT: Mapping[State, Mapping[Step, State]] = {
    State.HANDSHAKING: {Step.HANDSHAKE: State.CONNECTING} | _CLOSE,
    State.CONNECTING: {Step.CONNECT: State.CREATING, Step.REJECT: State.CLOSING} | _CLOSE,
    State.CREATING: {
        Step.PUBLISH: State.PUBLISH_PENDING,
        Step.PLAY: State.PLAY_PENDING,
        Step.REJECT: State.CLOSING,
    }
    | _CLOSE,
    State.PUBLISH_PENDING: {Step.ACCEPT: State.PUBLISHING, Step.REJECT: State.CLOSING} | _CLOSE,
    State.PUBLISHING: {Step.END: State.CLOSING, Step.REJECT: State.CLOSING} | _CLOSE,
    State.PLAY_PENDING: {Step.ACCEPT: State.PLAYING, Step.REJECT: State.CLOSING, Step.END: State.CLOSING} | _CLOSE,
    State.PLAYING: {Step.END: State.CLOSING, Step.REJECT: State.CLOSING} | _CLOSE,
    State.CLOSING: _CLOSE,
}


class Machine:
    """The current state and the table it moves by."""

    __slots__ = ("_table", "state")

    def __init__(self, table: Mapping[State, Mapping[Step, State]]) -> None:
        self._table = table
        self.state = State.HANDSHAKING

    def may(self, step: Step) -> bool:
        return step in self._table[self.state]

    def peer(self, step: Step) -> None:
        """The peer did this. Raises RemoteProtocolError where it may not."""
        after = self._table[self.state].get(step)
        if after is None:
            raise RemoteProtocolError(f"{step.name.lower()} while {self.state.name.lower().replace('_', ' ')}")
        self.state = after

    def owner(self, step: Step) -> None:
        """The owner asks for this. Raises LocalProtocolError where it may not."""
        after = self._table[self.state].get(step)
        if after is None:
            raise LocalProtocolError(f"{step.name.lower()} while {self.state.name.lower().replace('_', ' ')}")
        self.state = after
