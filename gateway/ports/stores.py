"""Interfaces of the stores and cloud services that the gateway uses. The adapters implement them."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.ports.events import StoredEvent
from gateway.ports.jobs import StoredJob
from gateway.ports.nodes import Node, StreamClaim


@dataclass(frozen=True, slots=True)
class Object:
    """A stored object. size: bytes. modified: seconds since 1970."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """A request that uploads one object directly from a client to the store."""

    url: str
    method: str
    headers: dict[str, str]


class ObjectStore(Protocol):
    """Stores finished media. Keys: see names.is_object_key. Raises StoreUnavailable if the store does not answer."""

    async def put(self, key: str, file: Path) -> None:
        """Moves a finished local file into the store. Readers never see a partial object.

        It replaces an object with this key. The key's suffix sets the content type. Raises OSError for problems of
        the local disk.
        """

    async def head(self, key: str) -> Object:
        """Returns the properties of an object. Raises NoSuchObject."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes from start to end (exclusive) in chunks of at most 256 KiB. Raises NoSuchObject."""

    def list(self, prefix: str) -> AsyncIterator[Object]:
        """Yields the objects whose keys begin with `prefix`, in no defined order."""

    async def delete(self, key: str) -> None:
        """Deletes an object. A missing one is not an error."""

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Deletes at most 1,000 objects. Missing ones are not an error. After StoreUnavailable, some may be deleted."""

    async def move(self, key: str, to: str) -> int:
        """Gives an object another key and returns its size.

        It replaces an object with that key. Raises NoSuchObject.
        """

    async def fetch(self, key: str, to: Path, max_bytes: int = 0) -> None:
        """Copies an object to a local file. max_bytes: 0 for no limit. Raises NoSuchObject, TooLarge."""

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        """Returns a request that uploads this object from a client; it is valid for `seconds`.

        Returns None if clients cannot reach the store.
        """

    async def check(self) -> None:
        """Returns if the store answers, else raises."""


class JobStore(Protocol):
    """Stores jobs. Raises StoreUnavailable if the store does not answer or cannot write now."""

    async def add(self, job: StoredJob) -> None:
        """Stores a new job. Raises JobExists."""

    async def get(self, id: str) -> StoredJob:
        """Returns the stored job, read consistently. Raises NoSuchJob."""

    async def newest(self, limit: int, before: str = "") -> list[StoredJob]:
        """Returns at most `limit` jobs, sorted by id, the newest first. before: only jobs older than this id."""

    async def unfinished(self) -> list[StoredJob]:
        """Returns all jobs in SUBMITTED or PROGRESSING, the oldest first."""

    async def change(self, job: StoredJob) -> None:
        """Stores the next version of a job, if the stored version is the previous one.

        Raises JobChanged, NoSuchJob.
        """

    async def trim(self, limit: int) -> None:
        """Deletes the oldest finished jobs. At most `limit` finished jobs remain."""

    async def check(self) -> None:
        """Returns if the store answers, else raises."""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Selects events of the log, the newest first.

    limit: maximum number of events. channel, type: "": all. since: no smaller ids. before: only smaller ids; "": all.
    """

    limit: int
    channel: str = ""
    type: str = ""
    since: str = ""
    before: str = ""


class EventStore(Protocol):
    """Stores the events log of all nodes that share it. Raises StoreUnavailable like ChannelStore."""

    async def append(self, events: Sequence[StoredEvent]) -> None:
        """Stores events. An event that is stored already is not stored again, so that a caller may retry."""

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        """Returns the selected events, the greatest id first."""

    async def trim(self, oldest: str, most: int) -> None:
        """Deletes events with ids smaller than `oldest`, and the oldest ones until `most` events remain.

        Refused pushes never fill more than half of `most`, because any client can cause them. If there are many, one
        call deletes only a part. A store that deletes old events itself does nothing.
        """


class Registry(Protocol):
    """Stores the nodes of the cluster and their stream claims. Raises StoreUnavailable like ChannelStore."""

    async def join(self, node: Node) -> None:
        """Adds a node."""

    async def beat(self, node: Node) -> Sequence[Node] | None:
        """Stores the current state of a node, with a greater `beat`. Adds a deleted node again.

        Returns what `nodes` would have returned before, if the same request can read it; otherwise None.
        """

    async def leave(self, id: str) -> None:
        """Removes a node. It is not an error if the node is unknown."""

    async def node(self, id: str) -> Node | None:
        """Returns a stored node, read consistently; None if it does not exist."""

    async def nodes(self) -> list[Node]:
        """Returns all nodes that have joined and not left, also crashed ones, in no defined order."""

    async def claim(self, claim: StreamClaim, item: Mapping[str, Any], replaces: str = "") -> None:
        """Stores the claim of a stream.

        It succeeds if the stream has no claim, if the stored claim has `left`, or if the stored claim's id is
        `replaces`. item: the other fields of the session's row, by the old system's names. Raises HeldByOtherNode.
        """

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        """Releases a stream, if `claim` is still the id of the stored claim.

        left: keeps the row for LEFT_SECONDS, for the next node.
        """

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """Returns the claims of these channels' streams (at most 100), by channel id. Leaves out claims with `left`.

        The result may be slightly stale.
        """

    async def claim_of(self, stream: str) -> StreamClaim | None:
        """Returns the stored claim of one stream, read consistently, also one with `left`."""

    async def check(self) -> None:
        """Returns if the registry answers, else raises."""


class StoreChanges(Protocol):
    """Tells which rows of the stores have changed, in any process.

    works: whether changes are told now. Otherwise, and a moment before that, some are not told.
    """

    works: bool

    def listen(self, table: str, callback: Callable[[str], None]) -> None:
        """Calls `callback` with the id of each changed row.

        table: "channels", "jobs" for new jobs, "people" for certificates of a fleet, with the id `<kind>/<key>`.
        """


@dataclass(frozen=True, slots=True)
class IvsIngest:
    """The push address of an IVS channel. key: secret. kind: BASIC, STANDARD, ADVANCED_SD or ADVANCED_HD."""

    endpoint: str
    key: str
    kind: str
    insecure: bool = False


class IvsDirectory(Protocol):
    """Looks up IVS channels. Raises StoreUnavailable if IVS does not answer."""

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        """Returns the push address of the channel `arn`. fresh: ignores the cache.

        Raises OutputError if the channel has none.
        """


@dataclass(frozen=True, slots=True)
class IvsChannelInfo:
    """A channel in IVS.

    kind: STANDARD, BASIC, ADVANCED_SD or ADVANCED_HD. latency: LOW or NORMAL.
    endpoint, playback_url: "" in the results of a list call.
    key: secret; "" unless the channel was just created.
    """

    arn: str
    name: str
    kind: str
    latency: str
    endpoint: str
    playback_url: str
    authorized: bool
    insecure: bool
    key: str = field(default="", repr=False)

    @property
    def server(self) -> str:
        """The server address for encoders."""
        return f"rtmps://{self.endpoint}:443/app/"


class IvsChannels(Protocol):
    """The channels of an AWS account in IVS, for operators.

    Raises IvsRefused for problems that an operator must fix. Raises StoreUnavailable if IVS does not answer, and
    StoreUnusable if AWS is not configured.
    """

    @property
    def available(self) -> bool:
        """Whether AWS seems to be configured. Makes no request."""

    async def channels(self) -> list[IvsChannelInfo]:
        """Returns all channels of the configured region, sorted by name."""

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannelInfo:
        """Creates a channel. Returns it with its key. authorized: whether players need a signed token."""

    async def delete(self, arn: str) -> None:
        """Deletes a channel and its keys."""


class ConsoleEntry(NamedTuple):
    """An entry of a ConsoleStore."""

    kind: str
    key: str
    value: Mapping[str, Any]
    expires: float


class ConsoleStore(Protocol):
    """Stores the data of console users: JSON objects, each with a kind and a key.

    Raises StoreUnavailable like ChannelStore.

    kind: "user", "session", "profile", "alarms" (their rules), "alarm" (a fault that was told), "announced" (a show
    that was announced, by channel), "show/<channel>" (its shows), "invitation" (to the fleet), "traffic/<day>" (bytes
    of channels, by process), "acme-certificate", "acme-state", "acme-challenges" and "acme-turn" (the certificate of
    the fleet).
    key: at most 1,024 bytes.
    expires: seconds since 1970 after which an entry counts as deleted; 0: never.
    """

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns the stored entry, read consistently; None if it does not exist."""

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Stores a new entry. Returns False if it exists already."""

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        """Stores an entry. Replaces an existing one."""

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Replaces an existing entry. Returns False if it does not exist."""

    async def delete(self, kind: str, key: str) -> bool:
        """Deletes an entry. Returns whether it existed."""

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        """Returns all entries of one kind, by key."""

    async def entries(self) -> Sequence[ConsoleEntry]:
        """Returns all entries of all kinds, in no defined order."""

    async def check(self) -> None:
        """Returns if the store answers, else raises."""


@dataclass(frozen=True, slots=True)
class PutMediaRequest:
    """A signed request without its body. expires: of its credentials, seconds since 1970; 0: never."""

    url: str
    headers: dict[str, str]
    expires: float = 0.0


class KvsEndpoints(Protocol):
    """The calls to Kinesis Video Streams that PutMedia needs: names, data endpoints, credentials, signatures."""

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        """Returns a signed request. Raises StoreUnavailable, OutputError.

        stream: name or ARN.
        start: producer start time, seconds since 1970.
        fresh: ignores the cached endpoint.
        """

    async def describe(self, stream: str) -> tuple[str, int]:
        """Returns the stream's ARN and its retention in hours. Raises StoreUnavailable, OutputError."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The tasks that a channel must have on other machines.

    kind: "codec" or "slave", the TASK_TYPE of the old system.
    size: micro to xlarge.
    environment: variables of the container, by the old system's names, without secrets.
    address: of the gateway that the tasks work for; tasks for other gateways are not counted. "": any gateway.
    command: replaces the command of the container.
    """

    channel: str
    kind: str
    size: str
    environment: Mapping[str, str]
    count: int = 1
    address: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A requested task that has not ended. state: the runner's name for it, for example PENDING or RUNNING."""

    arn: str
    state: str


class TaskRunner(Protocol):
    """Runs tasks on other machines. Raises StoreUnavailable if it does not answer, OutputError if it rejects."""

    async def reconcile(self, request: TaskRequest) -> list[RunningTask]:
        """Starts missing tasks and stops surplus ones. Returns all tasks that now exist.

        Call it repeatedly. Then surplus tasks do not remain, even if this process crashes between two steps.
        """

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        """Stops all tasks that work for this address. It is not an error if none exist."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret and its previous value ("": unknown). modified: of the current value, seconds since 1970."""

    current: str = field(repr=False)
    previous: str = field(default="", repr=False)
    modified: float = 0.0


class SecretStore(Protocol):
    """Reads secrets, which may be replaced. Raises StoreUnavailable if it does not answer."""

    async def read(self, name: str) -> SecretValue:
        """Returns the current secret. Raises StoreUnusable for problems that an operator must fix."""
