"""Who broke the rules: the peer or we.

ProtocolError
├── RemoteProtocolError   the peer's bytes break the protocol or one of our bounds: answer and close
└── LocalProtocolError    the owner asked for something the state does not allow: a bug on our side
"""


class ProtocolError(Exception):
    """Base of both; never raised itself."""


class RemoteProtocolError(ProtocolError):
    """The peer's fault; the message is fit for a log line."""


class LocalProtocolError(ProtocolError):
    """Our fault."""
