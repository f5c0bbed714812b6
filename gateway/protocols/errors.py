"""Errors of protocols, by the side that caused them.

ProtocolError
├── RemoteProtocolError   the peer's bytes break the protocol or one of our bounds: answer and close
└── LocalProtocolError    our code asked for something that the state does not allow: a bug on our side
"""


class ProtocolError(Exception):
    """Base of both errors; never raised itself."""


class RemoteProtocolError(ProtocolError):
    """The peer's fault. The message can be logged."""


class LocalProtocolError(ProtocolError):
    """A fault of our own code."""
