"""Opens the stores by their URLs in the settings: on this machine, in PostgreSQL, or in AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gateway.channels.cached_channels import CachedDomains
from gateway.channels.stores import ChannelStore, DomainStore
from gateway.lib.extras import INSTALL_AWS
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnusable
from gateway.ports.films import FilmStore
from gateway.ports.stores import ConsoleStore, EventStore, JobStore, ObjectStore, Registry, StoreChanges
from gateway.settings import Settings
from gateway.settings.models import S3Settings
from gateway.settings.option_types import IN_DATABASE

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession
    from gateway.adapters.local.database import Database
    from gateway.adapters.postgres.connections import PostgresConnections


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
    changes: StoreChanges | None = None  # None: the stores do not tell changes

    def unusable(self) -> dict[str, str]:
        """Returns the reasons why stores could not be opened, by their names. Their methods raise StoreUnavailable."""
        optional = {"jobs": self.jobs, "films": self.films, "console": self.console, "events": self.events}
        reasons = {f"{name} store": getattr(store, "unusable", "") for name, store in optional.items()}
        return {name: reason for name, reason in reasons.items() if reason}


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Opens the configured stores while the block runs. Raises StoreUnusable if that fails, but see `Stores.unusable`.

    channels: sqlite:///path stores channels and domains in one file. dynamodb://table stores the domains in SSM.
    DynamoDB and PostgreSQL open even while they are unavailable.
    objects: file:///path is a folder, s3://bucket a bucket.
    vod.jobs, vod.films, admin.store, events.store, registry: URLs like those of channels.
    """
    async with AsyncExitStack() as stack:
        session: AwsSession | None = None
        queues = (settings.vod.queue, settings.kvs.queue, settings.ecs.events, settings.ecs.addresses)
        if remote := [url for url in (*settings.store_urls(), *queues) if _in_cloud(url)]:
            session = await stack.enter_async_context(open_aws(remote[0], settings.s3, settings.tls.ca))
        database = await _connect(settings, settings.store_urls(), stack)
        places = _Places(stack, session, database)
        channels: ChannelStore = await places.open("channels", settings.channels, required=True)
        if session is not None and _in_cloud(settings.channels):
            from gateway.adapters.aws.domains import SsmDomains

            domains: DomainStore = CachedDomains(SsmDomains(session))
        else:
            domains = cast(DomainStore, channels)  # stores in SQL have both
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
            await places.open("jobs", settings.vod.jobs),
            await places.open("films", settings.vod.films),
            await places.open("console", settings.admin.store),
            await places.open("events", events, *((days * 86_400,) if _in_cloud(events) else ())),
            await places.open("registry", registry, required=True) if registry else None,
            bucket,
            _buckets(session) if session is not None else None,
            session,
            await _notifications(database, stack),
        )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where stores can be opened. Their end is that of the stack."""

    stack: AsyncExitStack
    session: AwsSession | None
    database: PostgresConnections | None

    async def open(self, name: str, url: str, *options: Any, required: bool = False) -> Any:
        """Opens a store. Imports its adapter now: for "jobs", SqliteJobs of local/stores.py.

        options: other arguments of the adapter. required: raises StoreUnusable if the store cannot be used now. Else
        see `Stores.unusable`.
        """
        adapter = _adapter(name, url)
        if url == IN_DATABASE:
            return adapter(self.database, *options)
        if _in_cloud(url):
            return adapter(self.session, url.partition("://")[2], *options)
        store = adapter(sqlite_path(url), *options)
        return await (self.stack.enter_async_context(store) if required else store.open_if_usable(self.stack))


async def _connect(settings: Settings, urls: Sequence[str], stack: AsyncExitStack) -> PostgresConnections | None:
    """Returns the connections of the option `database`, if one of the URLs needs it. Raises StoreUnusable."""
    if IN_DATABASE not in urls:
        return None
    from gateway.adapters.postgres.connections import PostgresConnections

    connections = PostgresConnections(settings.database.get_secret_value(), settings.tls.ca)
    return await stack.enter_async_context(connections)


async def _notifications(database: PostgresConnections | None, stack: AsyncExitStack) -> StoreChanges | None:
    if database is None:
        return None
    from gateway.adapters.postgres.notifications import PostgresNotifications

    notifications = PostgresNotifications(database)
    tasks = await stack.enter_async_context(Tasks("notifications"))
    tasks.keep(notifications.run, "notifications")
    return notifications


def _adapter(name: str, url: str) -> Any:
    if url == IN_DATABASE:
        place, prefix = "postgres.stores", "Postgres"
    elif _in_cloud(url):
        place, prefix = f"aws.{name}", "Dynamo"
    else:
        place, prefix = "local.stores", "Sqlite"
    return getattr(import_module(f"gateway.adapters.{place}"), f"{prefix}{name.capitalize()}")


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
    return {name: (sqlite_path(url), _adapter(name, url)) for name, url in urls.items() if url.startswith("sqlite:")}


@asynccontextmanager
async def _open_alone(settings: Settings, name: str, url: str, *, required: bool = False) -> AsyncIterator[Any]:
    """Opens one store with its own session or connections, see `_Places.open`."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_aws(url)) if _in_cloud(url) else None
        places = _Places(stack, session, await _connect(settings, (url,), stack))
        yield await places.open(name, url, required=required)


def open_registry(settings: Settings) -> AbstractAsyncContextManager[Registry | None]:
    """Opens only the registry, for a command or an edge. Yields None if the settings have none.

    Raises StoreUnusable like `open_stores`.
    """
    return _open_alone(settings, "registry", settings.registry, required=True) if settings.registry else nullcontext()


def open_channels(settings: Settings) -> AbstractAsyncContextManager[ChannelStore | None]:
    """Opens the channel store that all nodes share, for an edge. Yields None if each gateway has its own file.

    Raises StoreUnusable like `open_stores`.
    """
    shared = not settings.channels.startswith("sqlite:")
    return _open_alone(settings, "channels", settings.channels) if shared else nullcontext()


def open_console(settings: Settings) -> AbstractAsyncContextManager[ConsoleStore]:
    """Opens only the console's store, for a command. Raises StoreUnusable like `open_stores`."""
    return _open_alone(settings, "console", settings.admin.store)


def _buckets(session: AwsSession, storage_class: str = "") -> Callable[[str], ObjectStore]:
    from gateway.adapters.aws.objects import S3Objects

    return lambda bucket: S3Objects(session, bucket, storage_class)


@asynccontextmanager
async def open_bucket(bucket: str, s3: S3Settings, ca: Path | None = None) -> AsyncIterator[ObjectStore]:
    """Opens any bucket, for a command. Raises StoreUnusable if AWS is not available."""
    async with open_aws(f"s3://{bucket}", s3, ca) as session:
        yield _buckets(session)(bucket)


def open_aws(user: str, s3: S3Settings | None = None, ca: Path | None = None) -> AwsSession:
    """Returns a session for `async with`. user: the feature or URL that needs it, for the message.

    s3: the server of buckets; None: AWS. ca: see AwsSession.

    Raises StoreUnusable if AWS is not installed or has no region.
    """
    try:
        from gateway.adapters.aws.session import AwsSession
    except ModuleNotFoundError as e:
        raise StoreUnusable(f"{user} needs the AWS libraries ({e.name}): {INSTALL_AWS}") from None
    return AwsSession(s3, ca)


def _in_cloud(url: str) -> bool:
    return url.startswith(("dynamodb:", "s3:", "https:", "http:"))


def file_path(url: str) -> Path:
    """Returns the folder of a file: URL. The path is relative after three slashes, absolute after four."""
    return Path(url.removeprefix("file:///")).expanduser()


def sqlite_path(url: str) -> Path:
    """Returns the file of a sqlite: URL. The path is relative after three slashes, absolute after four."""
    return Path(url.removeprefix("sqlite:///")).expanduser()
