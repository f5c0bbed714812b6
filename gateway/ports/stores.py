"""Interfaces of the stores and cloud services that the gateway uses and that several adapters provide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.ports.jobs import StoredJob
from gateway.ports.nodes import Node, StreamClaim


@dataclass(frozen=True, slots=True)
class Object:
    """A stored object. size: bytes. modified: seconds since the epoch."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """The request with which a client may upload one object directly to the store."""

    url: str
    method: str
    headers: dict[str, str]


class ObjectStore(Protocol):
    """Keeps finished media. Keys: see names.is_object_key. Raises StoreUnavailable if the store does not answer."""

    async def put(self, key: str, file: Path) -> None:
        """Moves a finished local file into the store. The object becomes visible whole or not at all.

        It replaces an object with this key. The suffix of the key decides the content type. Raises OSError for
        problems of the disk.
        """
        ...

    async def head(self, key: str) -> Object:
        """Returns the properties of an object. Raises NoSuchObject."""
        ...

    def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes from first to end (exclusive) in pieces of at most 256 KiB. Raises NoSuchObject."""
        ...

    def list(self, prefix: str) -> AsyncIterator[Object]:
        """Yields the objects whose keys begin with `prefix`, in no defined order."""
        ...

    async def delete(self, key: str) -> None:
        """Deletes an object. A missing one is not an error."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Deletes at most 1,000 objects. Missing ones are not an error. After StoreUnavailable, some may be deleted."""
        ...

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        """Copies an object into a local file. Raises NoSuchObject, or TooLarge beyond `most` bytes (0: no limit)."""
        ...

    async def upload(self, key: str, seconds: int) -> DirectUpload | None:
        """Returns the request with which a client may upload this object within `seconds`.

        Returns None if clients cannot reach the store.
        """
        ...

    async def check(self) -> None:
        """Returns if the store answers, else raises."""
        ...


class JobStore(Protocol):
    """Keeps jobs. Raises StoreUnavailable if the store does not answer or cannot write now."""

    async def add(self, job: StoredJob) -> None:
        """Stores a new job. Raises JobExists."""
        ...

    async def get(self, id: str) -> StoredJob:
        """Returns the job as it is stored now. Raises NoSuchJob."""
        ...

    async def newest(self, most: int, before: str = "") -> list[StoredJob]:
        """Returns the newest jobs by id, the newest first. before: only jobs older than this id."""
        ...

    async def unfinished(self) -> list[StoredJob]:
        """Returns all jobs that are SUBMITTED or PROGRESSING, the oldest first."""
        ...

    async def change(self, job: StoredJob) -> None:
        """Stores the next version of a job, if the stored version is the one before it. Raises JobChanged,
        NoSuchJob.
        """
        ...

    async def trim(self, most: int) -> None:
        """Deletes the oldest finished jobs, so that at most `most` finished ones are left."""
        ...

    async def check(self) -> None:
        """Returns if the store answers, else raises."""
        ...


class Registry(Protocol):
    """Keeps the nodes of the cluster and the streams that they hold. Raises StoreUnavailable like ChannelStore."""

    async def join(self, node: Node) -> None:
        """Adds a node."""
        ...

    async def beat(self, node: Node) -> None:
        """Stores the present state of a node, with a greater `beat`. A node that was deleted is added again."""
        ...

    async def leave(self, id: str) -> None:
        """Removes a node. An unknown one is not an error."""
        ...

    async def node(self, id: str) -> Node | None:
        """Returns a node as it is stored now; None if there is none."""
        ...

    async def nodes(self) -> list[Node]:
        """Returns all nodes that joined and did not leave, also crashed ones, in no defined order."""
        ...

    async def claim(self, holding: StreamClaim, item: Mapping[str, Any], over: str = "") -> None:
        """Stores that a node holds a stream.

        It succeeds if no node holds it, if the stored holding has `left`, or if the stored claim is `over`.
        item: the other fields of the session's row, by the original's names. Raises HeldByOtherNode.
        """
        ...

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        """Gives a stream up, if `claim` is still the stored one. left: keep the row for a while for the next holder."""
        ...

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        """Returns the holdings of these channels' streams (at most 100), by channel id, without those that have
        `left`.

        The result may be a moment old.
        """
        ...

    async def holding(self, stream: str) -> StreamClaim | None:
        """Returns the stored holding of one stream, read consistently, also one that has `left`."""
        ...

    async def check(self) -> None:
        """Returns if the registry answers, else raises."""
        ...


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
        """Returns the push address of the channel `arn`. fresh: without the cache. Raises OutputError if there is
        none.
        """
        ...


@dataclass(frozen=True, slots=True)
class IvsChannelInfo:
    """A channel in IVS.

    kind: STANDARD, BASIC, ADVANCED_SD or ADVANCED_HD. latency: LOW or NORMAL.
    endpoint, playback_url: "" in results of a list.
    key: secret; "" except for a new channel.
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
    """The channels of an IVS account, for operators.

    Raises IvsRefused for problems that an operator must solve. Raises StoreUnavailable if IVS does not answer, and
    StoreUnusable if AWS is not configured.
    """

    @property
    def available(self) -> bool:
        """Whether AWS seems to be configured. Makes no request."""
        ...

    async def channels(self) -> list[IvsChannelInfo]:
        """Returns all channels of the configured region, sorted by name."""
        ...

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannelInfo:
        """Creates a channel and returns it with its key. authorized: whether players need a signed token."""
        ...

    async def delete(self, arn: str) -> None:
        """Deletes a channel and its keys."""
        ...


class ConsoleStore(Protocol):
    """Keeps the data of console users: JSON objects, each with a kind and a key. Raises StoreUnavailable like
    ChannelStore.

    kind: "user", "session" or "profile".
    key: at most 1,024 bytes.
    expires: seconds since the epoch after which an entry counts as deleted; 0: never.
    """

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns the entry as it is stored now; None if there is none."""
        ...

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Stores a new entry. Returns False if there is one already."""
        ...

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        """Stores an entry, in place of an existing one."""
        ...

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Replaces an existing entry. Returns False if there is none."""
        ...

    async def delete(self, kind: str, key: str) -> bool:
        """Deletes an entry. Returns whether there was one."""
        ...

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        """Returns all entries of one kind, by key."""
        ...

    async def check(self) -> None:
        """Returns if the store answers, else raises."""
        ...


@dataclass(frozen=True, slots=True)
class PutMediaRequest:
    """A signed request without its body. expires: when its credentials end, in seconds since the epoch; 0: never."""

    url: str
    headers: dict[str, str]
    expires: float = 0.0


class KvsEndpoints(Protocol):
    """The parts of Kinesis Video Streams that PutMedia needs: names, data endpoints, credentials, signatures."""

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        """Returns a signed request. Raises StoreUnavailable, OutputError.

        stream: name or ARN.
        start: producer start time, seconds since the epoch.
        fresh: look the endpoint up again.
        """
        ...

    async def describe(self, stream: str) -> tuple[str, int]:
        """Returns the stream's ARN and its retention in hours. Raises StoreUnavailable, OutputError."""
        ...


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """The tasks that a channel must have on other machines.

    kind: "codec" or "slave", the TASK_TYPE of the original.
    size: micro to xlarge.
    environment: of the container, by the original's names, without secrets.
    address: of the gateway that they work for; tasks for another gateway are not counted. "": any gateway.
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
    """A task that is wanted and has not ended. state: in the words of the runner, such as PENDING or RUNNING."""

    arn: str
    state: str


class TaskRunner(Protocol):
    """Runs tasks on other machines. Raises StoreUnavailable if it does not answer, OutputError if it refuses."""

    async def keep(self, order: TaskRequest) -> list[RunningTask]:
        """Starts missing tasks and stops surplus ones. Returns the tasks that then exist, also those found from
        before.

        Call it repeatedly. Even if this process crashes between two steps, surplus tasks do not stay for long.
        """
        ...

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        """Stops all tasks that work for this address. It is not an error if there are none."""
        ...


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret and its previous value ("": unknown). since: when it got its present value, seconds since the epoch."""

    current: str = field(repr=False)
    previous: str = field(default="", repr=False)
    since: float = 0.0


class SecretStore(Protocol):
    """Keeps secrets and replaces them. Raises StoreUnavailable if it does not answer."""

    async def read(self, name: str) -> SecretValue:
        """Returns the present secret. Raises StoreUnusable if an operator must solve a problem."""
        ...
