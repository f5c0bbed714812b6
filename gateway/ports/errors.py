"""The errors of the domain. Each server maps them to its own responses in one table.

GatewayError
├── NotAuthorized        the key is missing, wrong, expired or revoked, or the channel is unknown
├── NotFound             what was asked for does not exist
│   ├── NoSuchChannel    no channel is stored under this id
│   ├── NoSuchStream     no stream of this name is live
│   ├── NoSuchObject     no object is stored under this key
│   ├── NothingRecorded  no media of a channel are stored in this time
│   ├── NoSuchJob        no job is stored under this id
│   ├── NoSuchFilm       no film is stored under this key
│   ├── NoSuchUser       no user of the console has this name
│   └── NoSuchToken      no token for scripts has this id
├── NotPossible          the present state forbids it
│   ├── NameInUse        another publisher holds the stream
│   ├── ChannelExists    a channel is stored under this id already
│   ├── SlugTaken        another channel has this slug, or an id equal to it
│   ├── UserExists       a user of the console has this name already
│   ├── FilmInUse        the film cannot be changed now
│   ├── CannotCut        the media of a time range do not fit into one file
│   └── JobFinished      the job has ended and cannot be changed
├── HeldByOtherNode      another node holds the stream
├── HolderUnavailable    the node that holds the stream does not answer
├── OwnOutput            a channel wants to pull its own output
├── AtCapacity           a limit of this node is reached
│   └── TooManyRefusals  too many wrong credentials came from an address
├── TooManyRequests      too many clips of a channel were made in this time
├── BitRateTooHigh       a push was just ended for its bit rate
├── MediaUnusable        a push with a right key ended or was refused, because nothing of it could be used
├── PushesNotAccepted    this node serves players and accepts no pushes
├── InvalidField         a field of a channel has an invalid value
├── TooLarge             a channel or a file exceeds its limit
├── StoreUnavailable     a store does not answer or cannot write now: try again later
│   └── UnreadableRow    a row is damaged, or of a newer version
├── JobExists            a job is stored under this id already
├── JobChanged           the job was changed since it was read, perhaps canceled
├── OutputError          an external problem stops an output (disk full, server unreachable); it is retried
│   └── IvsRefused       Amazon IVS rejected the request, with a reason
├── OutputUnsupported    an output cannot process the stream's tracks; a retry does not help
└── StoreUnusable        at start: an operator must repair or configure the store
"""

from enum import StrEnum
from typing import ClassVar, Final

from gateway.ports.nodes import StreamClaim

# What users read about a fault of this program. The log has the exception.
INTERNAL_ERROR: Final = "an internal error, which the log names"


class RefusalReason(StrEnum):
    """Why a push was refused, as clients see it.

    EXPIRED, REVOKED: the sign itself verifies. WRONG: any other wrong key, also for an unknown channel.
    HOOK: the operator's service refused it. UNUSABLE: nothing of its media could be used, or its connection.
    """

    MISSING = "missing"
    WRONG = "wrong"
    EXPIRED = "expired"
    REVOKED = "revoked"
    IN_USE = "in_use"
    FULL = "full"
    HOOK = "hook"
    UNUSABLE = "unusable"


class GatewayError(Exception):
    """The base class of all errors here; never raised itself. The message is one line for a log."""


class NotFound(GatewayError):
    """The base class of errors about something that does not exist."""


class NotPossible(GatewayError):
    """The base class of errors about something that the present state forbids, such as a name that is in use."""


class _AboutOne(GatewayError):
    """The base class of errors about one stored thing. text: the message, in which its id or key follows."""

    text: ClassVar[str]

    def __init__(self, id: str) -> None:
        super().__init__(self.text.format(id))


class NotAuthorized(GatewayError):
    """The push or play is not authorized. The message does not reveal which part of a key was wrong.

    reason: why the key of a push was refused; None: the refusal has no key.
    expired: expiry of an expired key, seconds since 1970.
    """

    def __init__(self, message: str, reason: RefusalReason | None = None, expired: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.expired = expired


class NameInUse(NotPossible):
    """Another publisher holds the stream."""


class HeldByOtherNode(GatewayError):
    """Another node holds the stream. claim: its claim in the registry."""

    def __init__(self, claim: StreamClaim) -> None:
        super().__init__(f"{claim.stream} is held by node {claim.node}")
        self.claim = claim


class HolderUnavailable(GatewayError):
    """The node that holds a stream does not answer, or not correctly. retry_after: seconds."""

    retry_after = 2


class NoSuchStream(NotFound):
    """No stream of this name is live."""


class OwnOutput(GatewayError):
    """A channel wants to pull its own output."""


class AtCapacity(GatewayError):
    """A limit of this node or of an address is reached."""


class TooManyRefusals(AtCapacity):
    """A credential is wrong, and its address sent too many wrong ones within a minute."""


class TooManyRequests(GatewayError):
    """A channel has had as many of these requests as it may have in this time.

    retry_after: seconds until the next one.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BitRateTooHigh(GatewayError):
    """A push to the channel was just ended, because its bit rate was too high. kbps: the limit."""

    def __init__(self, kbps: float) -> None:
        super().__init__(f"the bit rate was above {kbps:g} kbit/s")
        self.kbps = kbps


class MediaUnusable(GatewayError):
    """A push with a right key ended or was refused, because nothing of it could be used.

    The message says what came, for the channel's owner.
    """


class PushesNotAccepted(GatewayError):
    """This node serves players and accepts no pushes."""


class NoSuchChannel(_AboutOne, NotFound):
    """No channel is stored under this id."""

    text = "no channel {}"


class ChannelExists(_AboutOne, NotPossible):
    """A channel is stored under this id already."""

    text = "channel {} exists already"


class SlugTaken(NotPossible):
    """Another channel has this slug, or an id equal to it."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"another channel has the address /{slug}/ already: choose another slug")
        self.field = "slug"


class InvalidField(GatewayError):
    """A field of a channel has an invalid value. field: its name in the API. message: the expected values."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class TooLarge(GatewayError):
    """A channel, or the object that `label` names, is too large. size, limit: bytes."""

    def __init__(self, size: int, limit: int, label: str = "the channel") -> None:
        super().__init__(f"{label} would take {size} bytes, {limit} are allowed")
        self.size = size
        self.limit = limit


class NoSuchObject(_AboutOne, NotFound):
    """No object is stored under this key."""

    text = "no object {}"


class NothingRecorded(NotFound):
    """No media of a channel are stored in this time."""


class CannotCut(NotPossible):
    """The media of a time range do not fit into one file. The text says why."""


class NoSuchJob(_AboutOne, NotFound):
    """No job is stored under this id."""

    text = "no job {}"


class NoSuchFilm(_AboutOne, NotFound):
    """No film is stored under this key."""

    text = "no film {}"


class FilmInUse(NotPossible):
    """The film cannot be changed now: a job makes it, or its files are being deleted."""


class JobExists(_AboutOne):
    """A job is stored under this id already."""

    text = "job {} exists already"


class JobChanged(_AboutOne):
    """The job was changed since it was read."""

    text = "job {} was changed meanwhile"


class JobFinished(NotPossible):
    """The job has ended and cannot be changed."""

    def __init__(self, id: str, state: str) -> None:
        super().__init__(f"job {id} is {state} already")


class OutputError(GatewayError):
    """An external problem stops an output (disk full, server unreachable). It is retried. The message is one line."""


class IvsRefused(OutputError):
    """Amazon IVS rejected the request. reason: missing, conflict, full, invalid or denied."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchUser(_AboutOne, NotFound):
    """No user of the console has this name."""

    text = "no user {}"


class NoSuchToken(_AboutOne, NotFound):
    """No token for scripts has this id."""

    text = "no token {}"


class UserExists(_AboutOne, NotPossible):
    """A user of the console has this name already."""

    text = "user {} exists already"


class StoreUnavailable(GatewayError):
    """A store does not answer, or cannot write now. The result of a write is unknown.

    retry_after: seconds. public: the text for clients, without paths and names of tables.
    """

    def __init__(self, message: str, retry_after: int = 5, public: str = "the store does not answer now") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.public = public


class ObjectArchived(StoreUnavailable):
    """The bucket has moved an object into an archive class. It can be read when its operator has restored it there."""

    def __init__(self, key: str) -> None:
        text = "the bucket has archived it: restore it there first"
        super().__init__(f"{key}: {text}", retry_after=3600, public=text)


class UnreadableRow(StoreUnavailable):
    """A row is damaged, or of a newer version. It can only be deleted or replaced."""


class StoreUnusable(GatewayError):
    """An operator must repair the store: it is unreadable, corrupt, of a newer version, or not configured."""


class OutputUnsupported(GatewayError):
    """An output cannot process the stream's tracks. `StreamOutput.run` raises it; only other tracks start it again."""
