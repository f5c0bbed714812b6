"""Opens the stores by their URLs in the settings, on this machine or in AWS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.channels.cached_channels import CachedDomains
from gateway.channels.stores import ChannelStore, DomainStore
from gateway.lib.aws_extra import INSTALL_AWS
from gateway.ports.errors import StoreUnusable
from gateway.ports.films import FilmStore
from gateway.ports.stores import ConsoleStore, EventStore, JobStore, ObjectStore, Registry
from gateway.settings import Settings
from gateway.settings.models import EventsSettings

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession


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


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Opens the configured stores while the block runs. Raises StoreUnusable if that fails, but see `Stores.unusable`.

    channels: sqlite:///path stores channels and domains in one file. dynamodb://table stores the domains in SSM, and
    opens even while the service is unavailable.
    objects: file:///path is a folder, s3://bucket a bucket.
    vod.jobs, vod.films, admin.store, events.store, registry: URLs like those of channels.
    """
    async with contextlib.AsyncExitStack() as stack:
        session: AwsSession | None = None
        queues = (settings.vod.queue, settings.kvs.queue, settings.ecs.events, settings.ecs.addresses)
        if remote := [url for url in (*settings.store_urls(), *queues) if _in_cloud(url)]:
            session = await stack.enter_async_context(open_aws(remote[0]))
        channels: ChannelStore
        domains: DomainStore
        if session is None or settings.channels.startswith("sqlite:"):
            from gateway.adapters.local.channels import SqliteChannels

            store = await stack.enter_async_context(SqliteChannels(sqlite_path(settings.channels)))
            channels, domains = store, store
        else:
            from gateway.adapters.aws.channels import DynamoChannels
            from gateway.adapters.aws.domains import SsmDomains

            channels = DynamoChannels(session, settings.channels.partition("://")[2])
            domains = CachedDomains(SsmDomains(session))
        media: Path | None = None
        bucket = ""
        objects: ObjectStore
        if session is None or settings.objects.startswith("file:"):
            from gateway.adapters.local.objects import LocalObjects

            media = file_path(settings.objects)
            objects = LocalObjects(media)
        else:
            from gateway.adapters.aws.objects import S3Objects

            bucket = settings.objects.partition("://")[2]
            objects = S3Objects(session, bucket, settings.recording.storage_class)
        jobs = await _open_jobs(settings.vod.jobs, session, stack)
        films = await _open_films(settings.vod.films, session, stack)
        console = await _open_console(settings.admin.store, session, stack)
        events = await _open_events(settings.events, session, stack)
        registry = await _open_registry(settings.registry, session, stack)
        buckets = _buckets(session) if session is not None else None
        yield Stores(
            channels, domains, objects, media, jobs, films, console, events, registry, bucket, buckets, session
        )


async def _open_jobs(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> JobStore:
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.jobs import SqliteJobs

        return await SqliteJobs(sqlite_path(url)).open_if_usable(stack)
    from gateway.adapters.aws.jobs import DynamoJobs

    return DynamoJobs(session, url.partition("://")[2])


async def _open_films(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> FilmStore:
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.films import SqliteFilms

        return await SqliteFilms(sqlite_path(url)).open_if_usable(stack)
    from gateway.adapters.aws.films import DynamoFilms

    return DynamoFilms(session, url.partition("://")[2])


async def _open_console(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> ConsoleStore:
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.console import SqliteConsole

        return await SqliteConsole(sqlite_path(url)).open_if_usable(stack)
    from gateway.adapters.aws.console import DynamoConsole

    return DynamoConsole(session, url.partition("://")[2])


async def _open_events(
    settings: EventsSettings, session: AwsSession | None, stack: contextlib.AsyncExitStack
) -> EventStore:
    if session is None or settings.store.startswith("sqlite:"):
        from gateway.adapters.local.events import SqliteEvents

        return await SqliteEvents(sqlite_path(settings.store)).open_if_usable(stack)
    from gateway.adapters.aws.events import DynamoEvents

    return DynamoEvents(session, settings.store.partition("://")[2], settings.days * 86_400)


async def _open_registry(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> Registry | None:
    if not url:
        return None
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.registry import SqliteRegistry

        return await stack.enter_async_context(SqliteRegistry(sqlite_path(url)))
    from gateway.adapters.aws.registry import DynamoRegistry

    return DynamoRegistry(session, url.partition("://")[2])


@contextlib.asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry | None]:
    """Opens only the registry, for a command or an edge. Yields None if the settings have none.

    Raises StoreUnusable like `open_stores`.
    """
    async with contextlib.AsyncExitStack() as stack:
        url, session = settings.registry, None
        if _in_cloud(url):
            session = await stack.enter_async_context(open_aws(url))
        yield await _open_registry(url, session, stack)


@contextlib.asynccontextmanager
async def open_channels(settings: Settings) -> AsyncIterator[ChannelStore | None]:
    """Opens the channel store that all nodes share, for an edge. Yields None if each gateway has its own file.

    Raises StoreUnusable like `open_stores`.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not _in_cloud(settings.channels):
            yield None
            return
        from gateway.adapters.aws.channels import DynamoChannels

        session = await stack.enter_async_context(open_aws(settings.channels))
        yield DynamoChannels(session, settings.channels.partition("://")[2])


@contextlib.asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator[ConsoleStore]:
    """Opens only the console's store, for a command. Raises StoreUnusable like `open_stores`."""
    async with contextlib.AsyncExitStack() as stack:
        url, session = settings.admin.store, None
        if not url.startswith("sqlite:"):
            session = await stack.enter_async_context(open_aws(url))
        yield await _open_console(url, session, stack)


def _buckets(session: AwsSession) -> Callable[[str], ObjectStore]:
    from gateway.adapters.aws.objects import S3Objects

    return lambda bucket: S3Objects(session, bucket)


@contextlib.asynccontextmanager
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
