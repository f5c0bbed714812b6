"""The errors of the domain. Each server has one table from these errors to its own answers.

GatewayError
├── NotAuthorized      the key is missing, wrong, expired or revoked, or the channel is unknown
├── NameInUse          another publisher holds the stream
├── HeldByOtherNode      another node holds the stream
├── NoSuchStream       no stream of this name is live
├── AtCapacity         a limit of this node is reached
│   └── TooManyRefusals  too many wrong credentials came from an address
├── PushesNotAccepted          this node serves players and accepts no pushes
├── NoSuchChannel      no channel is stored under this id
├── ChannelExists      a channel is stored under this id already
├── InvalidField       a field of a channel has an invalid value
├── TooLarge           a channel or a file exceeds its limit
├── StoreUnavailable          a store does not answer or cannot write now: try again later
├── NoSuchObject       no object is stored under this key
├── NoSuchJob          no job is stored under this id
├── JobExists          a job is stored under this id already
├── JobChanged         the job was changed meanwhile, perhaps canceled
├── JobFinished        the job is over and cannot be changed
├── NoSuchUser         no user of the console has this name
├── UserExists         a user of the console has this name already
├── OutputError      an external problem of an output (disk full, server away): it is tried again
│   └── IvsRefused     Amazon IVS refuses, with a reason
├── OutputUnsupported  an output cannot process the stream: trying again does not help
└── StoreUnusable      at start: the store cannot be used until an operator repairs it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.ports.nodes import StreamClaim


class GatewayError(Exception):
    """The base class of all errors here; never raised itself. The message is one line for a log."""


class NotAuthorized(GatewayError):
    """The push or play is not authorized. The message never tells which part of a key was wrong."""


class NameInUse(GatewayError):
    """Another publisher holds the stream."""


class HeldByOtherNode(GatewayError):
    """Another node holds the stream, see `holding`."""

    def __init__(self, holding: StreamClaim) -> None:
        super().__init__(f"{holding.stream} is held by node {holding.node}")
        self.holding = holding


class NoSuchStream(GatewayError):
    """No stream of this name is live."""


class AtCapacity(GatewayError):
    """A limit of this node or of an address is reached."""


class TooManyRefusals(AtCapacity):
    """A credential is wrong, and too many wrong ones came from its address within a minute."""


class PushesNotAccepted(GatewayError):
    """This node serves players and accepts no pushes."""


class NoSuchChannel(GatewayError):
    """No channel is stored under this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"no channel {id}")
        self.id = id


class ChannelExists(GatewayError):
    """A channel is stored under this id already."""

    def __init__(self, id: str) -> None:
        super().__init__(f"channel {id} exists already")
        self.id = id


class InvalidField(GatewayError):
    """A field of a channel has an invalid value.

    field: its original name. message: the expected values.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class TooLarge(GatewayError):
    """A channel, or the thing named by `what`, is too large. size, limit: bytes."""

    def __init__(self, size: int, limit: int, what: str = "the channel") -> None:
        super().__init__(f"{what} would take {size} bytes, {limit} are allowed")
        self.size = size
        self.limit = limit


class NoSuchObject(GatewayError):
    """No object is stored under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key}")
        self.key = key


class NoSuchJob(GatewayError):
    """No job is stored under this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"no job {id}")
        self.id = id


class JobExists(GatewayError):
    """A job is stored under this id already."""

    def __init__(self, id: str) -> None:
        super().__init__(f"job {id} exists already")
        self.id = id


class JobChanged(GatewayError):
    """The job was changed since it was read."""

    def __init__(self, id: str) -> None:
        super().__init__(f"job {id} was changed meanwhile")
        self.id = id


class JobFinished(GatewayError):
    """The job is over and cannot be changed."""

    def __init__(self, id: str, state: str) -> None:
        super().__init__(f"job {id} is {state} already")
        self.id = id


class OutputError(GatewayError):
    """An external problem hinders an output (disk full, server away), and it is tried again. The message is one
    line.
    """


class IvsRefused(OutputError):
    """Amazon IVS refuses. reason: missing, conflict, full, invalid or denied."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchUser(GatewayError):
    """No user of the console has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no user {name}")
        self.name = name


class UserExists(GatewayError):
    """A user of the console has this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"user {name} exists already")
        self.name = name


class StoreUnavailable(GatewayError):
    """A store does not answer, or cannot write now. A write may or may not have been done. retry_after: seconds."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnusable(GatewayError):
    """A store cannot be used until an operator repairs it: unreadable, corrupt, of a newer version, not configured."""


class OutputUnsupported(GatewayError):
    """An output cannot process this stream (its codecs). Raised by `StreamOutput.run`, which is then not started
    again.
    """
