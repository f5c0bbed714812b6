"""Adapters: what the ports of the hub mean on a machine or in a cloud, chosen by the URLs in the settings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.hub.cache import CachedDomains
from gateway.hub.errors import StoreUnusable
from gateway.hub.ports import ChannelStore, ConsoleStore, DomainStore, JobStore, ObjectStore, Registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession


@dataclass(frozen=True, slots=True)
class Stores:
    """The opened stores."""

    channels: ChannelStore
    domains: DomainStore
    objects: ObjectStore
    media: Path | None  # the folder of the objects, where they are files of this machine
    jobs: JobStore
    console: ConsoleStore
    registry: Registry | None = None  # where several nodes share the streams
    bucket: str = ""  # that the objects are in, where they are in one
    buckets: Callable[[str], ObjectStore] | None = None  # opens any other; None where there is no AWS
    aws: AwsSession | None = None


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores that the settings name, while the block runs; StoreUnusable where that cannot be.

    channels: sqlite:///path keeps channels and domains in one file; dynamodb://table keeps the domains in SSM, and
    opens also while the service is away. objects: file:///path is a folder, s3://bucket a bucket. vod.jobs, admin.store
    and registry are as channels.
    """
    local = settings.channels.startswith("sqlite:"), settings.objects.startswith("file:")
    async with contextlib.AsyncExitStack() as stack:
        session: AwsSession | None = None
        stored = (settings.channels, settings.objects, settings.vod.jobs, settings.admin.store, settings.registry)
        told = (settings.vod.queue, settings.ecs.events, settings.ecs.addresses)
        if remote := [url for url in (*stored, *told) if _in_cloud(url)]:
            session = await stack.enter_async_context(open_aws(remote[0]))
        channels: ChannelStore
        domains: DomainStore
        if session is None or local[0]:
            from gateway.adapters.local.channels import SqliteChannels

            store = await stack.enter_async_context(SqliteChannels(sqlite_path(settings.channels)))
            channels, domains = store, store
        else:
            from gateway.adapters.aws.channels import DynamoChannels
            from gateway.adapters.aws.domains import SsmDomains

            channels = DynamoChannels(session, settings.channels.partition("://")[2])
            domains = CachedDomains(SsmDomains(session))
        media: Path | None = None
        objects: ObjectStore
        if session is None or local[1]:
            from gateway.adapters.local.objects import LocalObjects

            media = file_path(settings.objects)
            objects = LocalObjects(media)
        else:
            from gateway.adapters.aws.objects import S3Objects

            objects = S3Objects(session, settings.objects.partition("://")[2], settings.recording.storage_class)
        jobs = await _open_jobs(settings.vod.jobs, session, stack)
        console = await _open_console(settings.admin.store, session, stack)
        registry = await _open_registry(settings.registry, session, stack)
        if session is None:
            yield Stores(channels, domains, objects, media, jobs, console, registry)
            return
        own = "" if local[1] else settings.objects.partition("://")[2]
        yield Stores(channels, domains, objects, media, jobs, console, registry, own, _buckets(session), session)


async def _open_jobs(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> JobStore:
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.jobs import SqliteJobs

        return await stack.enter_async_context(SqliteJobs(sqlite_path(url)))
    from gateway.adapters.aws.jobs import DynamoJobs

    return DynamoJobs(session, url.partition("://")[2])


async def _open_console(url: str, session: AwsSession | None, stack: contextlib.AsyncExitStack) -> ConsoleStore:
    if session is None or url.startswith("sqlite:"):
        from gateway.adapters.local.console import SqliteConsole

        return await stack.enter_async_context(SqliteConsole(sqlite_path(url)))
    from gateway.adapters.aws.console import DynamoConsole

    return DynamoConsole(session, url.partition("://")[2])


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
    """The registry alone, for a command or an edge; None where the settings name none. StoreUnusable as of
    open_stores."""
    async with contextlib.AsyncExitStack() as stack:
        url, session = settings.registry, None
        if _in_cloud(url):
            session = await stack.enter_async_context(open_aws(url))
        yield await _open_registry(url, session, stack)


@contextlib.asynccontextmanager
async def open_channels(settings: Settings) -> AsyncIterator[ChannelStore | None]:
    """The channels that all nodes share, for an edge; None where they are in files of each gateway. StoreUnusable as of
    open_stores."""
    async with contextlib.AsyncExitStack() as stack:
        if not _in_cloud(settings.channels):
            yield None
            return
        from gateway.adapters.aws.channels import DynamoChannels

        session = await stack.enter_async_context(open_aws(settings.channels))
        yield DynamoChannels(session, settings.channels.partition("://")[2])


@contextlib.asynccontextmanager
async def open_console(settings: Settings) -> AsyncIterator[ConsoleStore]:
    """The console's store alone, for a command. StoreUnusable as of open_stores."""
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
    """Any bucket, for a command; StoreUnusable where there is no AWS."""
    async with open_aws(f"s3://{bucket}") as session:
        yield _buckets(session)(bucket)


def open_aws(what: str) -> AwsSession:
    """A session for `async with`; StoreUnusable where AWS is not installed or has no region. what: that needs it."""
    try:
        from gateway.adapters.aws.session import AwsSession
    except ModuleNotFoundError as e:
        raise StoreUnusable(f"{what} needs the AWS extra ({e.name}): pip install 'millrace[aws]'") from None
    return AwsSession()


def _in_cloud(url: str) -> bool:
    return bool(url) and not url.startswith(("sqlite:", "file:"))


def file_path(url: str) -> Path:
    """The folder of file:///path: from the working directory with three slashes, absolute with four."""
    return Path(url.removeprefix("file:///")).expanduser()


def sqlite_path(url: str) -> Path:
    """The file of sqlite:///path: from the working directory with three slashes, absolute with four."""
    return Path(url.removeprefix("sqlite:///")).expanduser()
