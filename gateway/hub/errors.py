"""What the domain says no with. Each server has one table from these to its own answers.

HubError
├── NotAuthorized      the sign is missing, wrong, expired or revoked, or the channel unknown
├── NameInUse          another publisher holds the stream
├── Held               another node holds the stream
├── NoSuchStream       nothing is live under this name
├── AtCapacity         a limit of this node is reached
├── PlaysOnly          this node plays streams and takes none
├── NoSuchChannel      no channel is stored under this id
├── ChannelExists      a channel is stored under this id already
├── InvalidField       a channel's field has a value that cannot be used
├── TooLarge           a channel is larger than a stored item may be, or a file than who fetches it allows
├── StoreAway          a store does not answer or cannot write now: try again later
├── NoSuchObject       nothing is stored under this key
├── NoSuchJob          no job is stored under this id
├── JobExists          a job is stored under this id already
├── JobChanged         somebody else has moved the job meanwhile: it may be cancelled
├── JobFinished        the job is over, nothing can be done about it
├── NoSuchUser         no user of the console has this name
├── UserExists         a user of the console has this name already
├── OutputTrouble      the world hinders an output (disk full, server away): it is tried again
│   └── IvsRefused     Amazon IVS says no, and why
├── OutputUnsupported  an output cannot carry what the stream is made of: trying again does not help
└── StoreUnusable      at start: the store cannot be used until somebody puts it right
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.hub.nodes import Holding


class HubError(Exception):
    """Base of all; never raised itself. The message is one line, fit for a log."""


class NotAuthorized(HubError):
    """The message never tells which part of a sign was wrong."""


class NameInUse(HubError):
    """Another publisher holds the stream."""


class Held(HubError):
    """Another node holds the stream: `holding`."""

    def __init__(self, holding: Holding) -> None:
        super().__init__(f"{holding.stream} is held by node {holding.node}")
        self.holding = holding


class NoSuchStream(HubError):
    """Nothing is live under this name."""


class AtCapacity(HubError):
    """A limit of this node or of an address is reached."""


class PlaysOnly(HubError):
    """This node plays streams and takes none."""


class NoSuchChannel(HubError):
    """No channel is stored under this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"no channel {id}")
        self.id = id


class ChannelExists(HubError):
    """A channel is stored under this id already."""

    def __init__(self, id: str) -> None:
        super().__init__(f"channel {id} exists already")
        self.id = id


class InvalidField(HubError):
    """A channel's field (`field`, its original name) has a value that cannot be used; `message`: what is expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class TooLarge(HubError):
    """A channel, or what `what` names, is larger (`size`, bytes) than it may be (`limit`)."""

    def __init__(self, size: int, limit: int, what: str = "the channel") -> None:
        super().__init__(f"{what} would take {size} bytes, {limit} are allowed")
        self.size = size
        self.limit = limit


class NoSuchObject(HubError):
    """Nothing is stored under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key}")
        self.key = key


class NoSuchJob(HubError):
    """No job is stored under this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"no job {id}")
        self.id = id


class JobExists(HubError):
    """A job is stored under this id already."""

    def __init__(self, id: str) -> None:
        super().__init__(f"job {id} exists already")
        self.id = id


class JobChanged(HubError):
    """Somebody else has moved the job since it was read."""

    def __init__(self, id: str) -> None:
        super().__init__(f"job {id} was changed meanwhile")
        self.id = id


class JobFinished(HubError):
    """The job is over (`state`)."""

    def __init__(self, id: str, state: str) -> None:
        super().__init__(f"job {id} is {state} already")
        self.id = id


class OutputTrouble(HubError):
    """The world hinders an output (disk full, server away): one line for the operator, and it is tried again."""


class IvsRefused(OutputTrouble):
    """Amazon IVS says no; `reason`: missing, conflict, full, invalid or denied."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchUser(HubError):
    """No user of the console has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no user {name}")
        self.name = name


class UserExists(HubError):
    """A user of the console has this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"user {name} exists already")
        self.name = name


class StoreAway(HubError):
    """A store does not answer, or cannot write now; whether a write was done is not known. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnusable(HubError):
    """A store cannot be used until somebody puts it right: unreadable, corrupt, of a newer version, not configured."""


class OutputUnsupported(HubError):
    """An output cannot carry this stream (its codecs); raised by `Output.run`, which is then not started again."""
