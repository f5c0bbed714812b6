"""Opens the stores by their URLs in the settings, on this machine or in AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gateway.channels.cached_channels import CachedDomains
from gateway.channels.stores import ChannelStore, DomainStore
from gateway.lib.aws_extra import INSTALL_AWS
from gateway.ports.errors import StoreUnusable
from gateway.ports.films import FilmStore
from gateway.ports.stores import ConsoleStore, EventStore, JobStore, ObjectStore, Registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession
    from gateway.adapters.local.database import Database


@dataclass(frozen=True, slots=True)
class Stores:
    """The opened stores. Live streams work without `jobs`, `films`, `console` and `events`, see `unusable`."""

    channels: ChannelStore
    domains: DomainStore
    objects: ObjectStore
    media: Path | None  # folder of the objects if they are local files
    jobs: JobStore
    films: FilmStore
    console: ConsoleStore
    events: EventStore
    registry: Registry | None = None  # only in a cluster
    bucket: str = ""  # of the objects; "" if they are local files
    buckets: Callable[[str], ObjectStore] | None = None  # opens any bucket; None without AWS
    aws: AwsSession | None = None

    def unusable(self) -> dict[str, str]:
        """Returns the reasons why stores could not be opened, by their names. Their methods raise StoreUnavailable."""
        optional = {"jobs": self.jobs, "films": self.films, "console": self.console, "events": self.events}
        reasons = {f"{name} store": getattr(store, "unusable", "") for name, store in optional.items()}
        return {name: reason for name, reason in reasons.items() if reason}


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Opens the configured stores while the block runs. Raises StoreUnusable if that fails, but see `Stores.unusable`.

    channels: sqlite:///path stores channels and domains in one file. dynamodb://table stores the domains in SSM, and
    opens even while the service is unavailable.
    objects: file:///path is a folder, s3://bucket a bucket.
    vod.jobs, vod.films, admin.store, events.store, registry: URLs like those of channels.
    """
    async with AsyncExitStack() as stack:
        session: AwsSession | None = None
        queues = (settings.vod.queue, settings.kvs.queue, settings.ecs.events, settings.ecs.addresses)
        if remote := [url for url in (*settings.store_urls(), *queues) if _in_cloud(url)]:
            session = await stack.enter_async_context(open_aws(remote[0]))
        channels: ChannelStore = await _open("channels", settings.channels, session, stack, required=True)
        if session is not None and _in_cloud(settings.channels):
            from gateway.adapters.aws.domains import SsmDomains

            domains: DomainStore = CachedDomains(SsmDomains(session))
        else:
            domains = cast(DomainStore, channels)  # SqliteChannels has both
        media: Path | None = None
        bucket = ""
        if session is not None and _in_cloud(settings.objects):
            bucket = settings.objects.partition("://")[2]
            objects = _buckets(session, settings.recording.storage_class)(bucket)
        else:
            from gateway.adapters.local.objects import LocalObjects

            media = file_path(settings.objects)
            objects = LocalObjects(media)
        events, days, registry = settings.events.store, settings.events.days, settings.registry
        yield Stores(
            channels,
            domains,
            objects,
            media,
            await _open("jobs", settings.vod.jobs, session, stack),
            await _open("films", settings.vod.films, session, stack),
            await _open("console", settings.admin.store, session, stack),
            await _open("events", events, session, stack, *((days * 86_400,) if _in_cloud(events) else ())),
            await _open("registry", registry, session, stack, required=True) if registry else None,
            bucket,
            _buckets(session) if session is not None else None,
            session,
        )


async def _open(
    name: str, url: str, session: AwsSession | None, stack: AsyncExitStack, *options: Any, required: bool = False
) -> Any:
    """Opens a store. Imports its adapter now: for "jobs", SqliteJobs of local/jobs.py or DynamoJobs of aws/jobs.py.

    options: other arguments of the adapter. required: raises StoreUnusable if the store cannot be used now. Else see
    `Stores.unusable`.
    """
    adapter = _adapter(name, url)
    if _in_cloud(url):
        return adapter(session, url.partition("://")[2], *options)
    store = adapter(sqlite_path(url), *options)
    return await (stack.enter_async_context(store) if required else store.open_if_usable(stack))


def _adapter(name: str, url: str) -> Any:
    place, prefix = ("aws", "Dynamo") if _in_cloud(url) else ("local", "Sqlite")
    return getattr(import_module(f"gateway.adapters.{place}.{name}"), f"{prefix}{name.capitalize()}")


def local_databases(settings: Settings) -> dict[str, tuple[Path, type[Database]]]:
    """Returns each configured SQLite file and its adapter, by the name of the store."""
    urls = {
        "channels": settings.channels,
        "jobs": settings.vod.jobs,
        "films": settings.vod.films,
        "console": settings.admin.store,
        "events": settings.events.store,
        "registry": settings.registry,
    }
    return {name: (sqlite_path(url), _adapter(name, url)) for name, url in urls.items() if url and not _in_cloud(url)}


@asynccontextmanager
async def _open_alone(name: str, url: str, *, required: bool = False) -> AsyncIterator[Any]:
    """Opens one store with its own session, see `_open`."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_aws(url)) if _in_cloud(url) else None
        yield await _open(name, url, session, stack, required=required)


def open_registry(settings: Settings) -> AbstractAsyncContextManager[Registry | None]:
    """Opens only the registry, for a command or an edge. Yields None if the settings have none.

    Raises StoreUnusable like `open_stores`.
    """
    return _open_alone("registry", settings.registry, required=True) if settings.registry else nullcontext()


def open_channels(settings: Settings) -> AbstractAsyncContextManager[ChannelStore | None]:
    """Opens the channel store that all nodes share, for an edge. Yields None if each gateway has its own file.

    Raises StoreUnusable like `open_stores`.
    """
    return _open_alone("channels", settings.channels) if _in_cloud(settings.channels) else nullcontext()


def open_console(settings: Settings) -> AbstractAsyncContextManager[ConsoleStore]:
    """Opens only the console's store, for a command. Raises StoreUnusable like `open_stores`."""
    return _open_alone("console", settings.admin.store)


def _buckets(session: AwsSession, storage_class: str = "") -> Callable[[str], ObjectStore]:
    from gateway.adapters.aws.objects import S3Objects

    return lambda bucket: S3Objects(session, bucket, storage_class)


@asynccontextmanager
async def open_bucket(bucket: str) -> AsyncIterator[ObjectStore]:
    """Opens any bucket, for a command. Raises StoreUnusable if AWS is not available."""
    async with open_aws(f"s3://{bucket}") as session:
        yield _buckets(session)(bucket)


def open_aws(user: str) -> AwsSession:
    """Returns a session for `async with`. user: the feature or URL that needs it, for the message.

    Raises StoreUnusable if AWS is not installed or has no region.
    """
    try:
        from gateway.adapters.aws.session import AwsSession
    except ModuleNotFoundError as e:
        raise StoreUnusable(f"{user} needs the AWS libraries ({e.name}): {INSTALL_AWS}") from None
    return AwsSession()


def _in_cloud(url: str) -> bool:
    return bool(url) and not url.startswith(("sqlite:", "file:"))


def file_path(url: str) -> Path:
    """Returns the folder of a file: URL. The path is relative after three slashes, absolute after four."""
    return Path(url.removeprefix("file:///")).expanduser()


def sqlite_path(url: str) -> Path:
    """Returns the file of a sqlite: URL. The path is relative after three slashes, absolute after four."""
    return Path(url.removeprefix("sqlite:///")).expanduser()
