"""What the hub needs from outside and what more than one adapter provides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gateway.hub.addresses import Domains
from gateway.hub.channel import Channel
from gateway.hub.jobs import Job
from gateway.hub.nodes import Holding, Node


class ChannelStore(Protocol):
    """Where channels are kept. Where the store does not answer or cannot write now, StoreAway comes within 8 s."""

    async def get(self, id: str) -> Channel:
        """The channel as it is stored now. Raises NoSuchChannel."""
        ...

    async def list(self) -> list[Channel]:
        """All channels, in no promised order."""
        ...

    async def add(self, item: Mapping[str, Any]) -> Channel:
        """Store a new channel under its `id`. Raises ChannelExists."""
        ...

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        """Set these fields, leave the others, in one step; the channel as it then is. Raises NoSuchChannel."""
        ...

    async def delete(self, id: str) -> None:
        """Raises NoSuchChannel."""
        ...

    async def check(self) -> None:
        """Return where the store answers; what readiness asks."""
        ...


class ChannelReader(Protocol):
    """The part of a ChannelStore that playback needs; also a cache in front of one."""

    async def get(self, id: str) -> Channel:
        """Raises NoSuchChannel, StoreAway."""
        ...


class DomainStore(Protocol):
    """Where the push and pull domains are kept. StoreAway as of ChannelStore."""

    async def get_domains(self) -> Domains:
        """What was set; empty where nothing was."""
        ...

    async def set_domains(self, domains: Domains) -> None:
        """Keep them; an empty one is removed."""
        ...


@dataclass(frozen=True, slots=True)
class Object:
    """A stored object. size: bytes; modified: seconds since the epoch."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Upload:
    """Where and how a client may send one object by itself."""

    url: str
    method: str
    headers: dict[str, str]


class ObjectStore(Protocol):
    """Where finished media is kept. Keys: names.is_object_key. StoreAway where the store does not answer."""

    async def put(self, key: str, file: Path) -> None:
        """The finished local file becomes the object, visible whole or not at all, and is gone then.

        It replaces what had this key. The content type follows the key's suffix. OSError for trouble with the disk.
        """
        ...

    async def head(self, key: str) -> Object:
        """Raises NoSuchObject."""
        ...

    def read(self, key: str, first: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from first to end (exclusive) in pieces of at most 256 KiB. Raises NoSuchObject."""
        ...

    def list(self, prefix: str) -> AsyncIterator[Object]:
        """What begins with `prefix`, in no promised order."""
        ...

    async def delete(self, key: str) -> None:
        """An absent one is fine."""
        ...

    async def fetch(self, key: str, to: Path, most: int = 0) -> None:
        """Into a local file. Raises NoSuchObject, TooLarge beyond `most` bytes (0: no bound)."""
        ...

    async def upload(self, key: str, seconds: int) -> Upload | None:
        """How a client may put this object by itself for so long; None where the store has no address of its own."""
        ...

    async def check(self) -> None:
        """Return where the store answers."""
        ...


class JobStore(Protocol):
    """Where jobs are kept. StoreAway where the store does not answer or cannot write now."""

    async def add(self, job: Job) -> None:
        """Raises JobExists."""
        ...

    async def get(self, id: str) -> Job:
        """The job as it is stored now. Raises NoSuchJob."""
        ...

    async def newest(self, most: int, before: str = "") -> list[Job]:
        """The newest jobs by id, the newest first; `before`: only older ones than this id."""
        ...

    async def unfinished(self) -> list[Job]:
        """All that are SUBMITTED or PROGRESSING, the oldest first."""
        ...

    async def change(self, job: Job) -> None:
        """Store the next version of a job, if what is stored is the one before it. Raises JobChanged, NoSuchJob."""
        ...

    async def trim(self, most: int) -> None:
        """Forget the oldest finished jobs, so that at most so many finished ones are left."""
        ...

    async def check(self) -> None:
        """Return where the store answers."""
        ...


class Registry(Protocol):
    """Which nodes there are and which streams they hold. StoreAway as of ChannelStore."""

    async def join(self, node: Node) -> None:
        """A node is there from now on."""
        ...

    async def beat(self, node: Node) -> None:
        """The node as it is now; its `beat` is greater than before. It counts as there again where it was forgotten."""
        ...

    async def leave(self, id: str) -> None:
        """The node goes; an unknown one is fine."""
        ...

    async def node(self, id: str) -> Node | None:
        """As it is stored now."""
        ...

    async def nodes(self) -> list[Node]:
        """All that joined and did not leave, those too that died without a word; in no promised order."""
        ...

    async def claim(self, holding: Holding, item: Mapping[str, Any], over: str = "") -> None:
        """Store that a node holds a stream, where nobody does (or what stands there has `left`) or the claim `over` is
        what stands there. item: what else the session's row tells, by the original's names. Raises Held."""
        ...

    async def release(self, stream: str, claim: str, *, left: bool = False) -> None:
        """The holder gives the stream up, where `claim` still stands. left: keep for a while what a successor needs."""
        ...

    async def find(self, streams: Collection[str]) -> dict[str, Holding]:
        """Who holds these channels' streams (at most 100), by channel id, without those that have `left`; as it was a
        moment ago, perhaps."""
        ...

    async def holding(self, stream: str) -> Holding | None:
        """What is stored of one stream now, read consistently; also one that has `left`."""
        ...

    async def check(self) -> None:
        """Return where the registry answers."""
        ...


@dataclass(frozen=True, slots=True)
class IvsIngest:
    """Where an IVS channel takes its push. key is a secret. kind: BASIC, STANDARD, ADVANCED_SD or ADVANCED_HD."""

    endpoint: str
    key: str
    kind: str
    insecure: bool = False


class IvsDirectory(Protocol):
    """What IVS knows of its channels. StoreAway where it does not answer."""

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        """Of the channel `arn`; `fresh`: not from memory. Raises OutputTrouble where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class IvsChannel:
    """A channel as IVS has it. kind: STANDARD, BASIC, ADVANCED_SD or ADVANCED_HD; latency: LOW or NORMAL.

    endpoint, playback_url: "" where only a list was asked for. key is a secret: "" but where it was just made.
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
        """What encoders are given as their server."""
        return f"rtmps://{self.endpoint}:443/app/"


class IvsChannels(Protocol):
    """The channels of an IVS account, for those who run it.

    Raises IvsRefused for what somebody has to put right, StoreAway where IVS does not answer, StoreUnusable where AWS
    is not set up here.
    """

    @property
    def available(self) -> bool:
        """Whether it looks set up here; nobody is asked."""
        ...

    async def channels(self) -> list[IvsChannel]:
        """All of the configured region, by name."""
        ...

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannel:
        """A new one, with its key. authorized: players need a signed token."""
        ...

    async def delete(self, arn: str) -> None:
        """The channel and its keys."""
        ...


class ConsoleStore(Protocol):
    """What is kept of the people who use the console: JSON objects, each under a kind ("user", "session", "profile")
    and a key of at most 1,024 bytes. StoreAway as of ChannelStore.

    expires: seconds since the epoch after which it counts as gone; 0: never.
    """

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """As it is stored now; None where there is none."""
        ...

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Stores it where nothing is; False where something is already."""
        ...

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        """Stores it, in place of what is there."""
        ...

    async def replace(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        """Stores it in place of what is there; False where nothing is."""
        ...

    async def delete(self, kind: str, key: str) -> bool:
        """Whether there was anything."""
        ...

    async def list(self, kind: str) -> dict[str, dict[str, Any]]:
        """All of one kind, by key."""
        ...

    async def check(self) -> None:
        """Return where the store answers."""
        ...


@dataclass(frozen=True, slots=True)
class PutMediaRequest:
    """A signed request, ready but for its body. expires: seconds since the epoch when its credentials end; 0: never."""

    url: str
    headers: dict[str, str]
    expires: float = 0.0


class KvsEndpoints(Protocol):
    """Kinesis Video Streams as far as PutMedia needs it: names, data endpoints, credentials, signatures."""

    async def put_media(self, stream: str, start: float, *, fresh: bool = False) -> PutMediaRequest:
        """Of the stream's name or ARN; start: of the producer, seconds since the epoch; fresh: ask for the endpoint
        again. Raises StoreAway, OutputTrouble."""
        ...

    async def describe(self, stream: str) -> tuple[str, int]:
        """The stream's ARN and its retention in hours. Raises StoreAway, OutputTrouble."""
        ...


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """Tasks that a channel is to have elsewhere. kind: "codec" or "slave", the original's TASK_TYPE. size: micro to
    xlarge. environment: of the container, by the original's names, nothing secret. address: of the gateway that they
    work for; tasks for another are none of these; "": for whichever. command: instead of the container's own."""

    channel: str
    kind: str
    size: str
    environment: Mapping[str, str]
    count: int = 1
    address: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that is wanted and not over. state: as who runs it calls it, such as PENDING or RUNNING."""

    arn: str
    state: str


class TaskRunner(Protocol):
    """Who runs tasks apart from this machine. StoreAway where it does not answer, OutputTrouble where it says no."""

    async def keep(self, order: TaskOrder) -> list[RunningTask]:
        """Starts what is missing and ends what is too much; the tasks that there are then, those found again included.

        To be asked again and again: also after a crash of ours between two steps there are never more than ordered for
        long."""
        ...

    async def stop(self, channel: str, kind: str, address: str, reason: str) -> None:
        """Ends all of them that work for this address; none is fine."""
        ...


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret and what it was before ("": unknown). since: seconds since the epoch when it became what it is."""

    current: str = field(repr=False)
    previous: str = field(default="", repr=False)
    since: float = 0.0


class SecretStore(Protocol):
    """Where secrets are kept and replaced. StoreAway where it does not answer."""

    async def read(self, name: str) -> SecretValue:
        """As it is now. Raises StoreUnusable where somebody has to put something right."""
        ...
