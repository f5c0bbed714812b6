"""Errors of protocols, by the side that caused them.

ProtocolError
├── RemoteProtocolError   the bytes of the peer break the protocol or one of our limits: answer and close
└── LocalProtocolError    our code requested a step that the state does not allow: a bug
"""


class ProtocolError(Exception):
    """The base of both errors. It is never raised itself."""


class RemoteProtocolError(ProtocolError):
    """The peer is wrong. The message may be logged."""


class LocalProtocolError(ProtocolError):
    """Our code is wrong."""
