"""Adapters: what the ports of the hub mean on a machine or in a cloud, chosen by the URLs in the settings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gateway.hub.cache import CachedDomains
from gateway.hub.errors import StoreUnusable
from gateway.hub.ports import ChannelStore, DomainStore
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Stores:
    """The opened stores."""

    channels: ChannelStore
    domains: DomainStore


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores that `settings.channels` names, while the block runs; StoreUnusable where that cannot be.

    sqlite:///path keeps channels and domains in one file; dynamodb://table keeps the domains in SSM, and opens also
    while the service is away.
    """
    scheme, _, place = settings.channels.partition("://")
    if scheme == "sqlite":
        from gateway.adapters.local.channels import SqliteChannels

        async with SqliteChannels(sqlite_path(settings.channels)) as store:
            yield Stores(store, store)
        return
    try:
        from gateway.adapters.aws.channels import DynamoChannels
        from gateway.adapters.aws.domains import SsmDomains
        from gateway.adapters.aws.session import AwsSession
    except ModuleNotFoundError as e:
        raise StoreUnusable(
            f"{settings.channels} needs the AWS extra ({e.name}): pip install 'millrace[aws]'"
        ) from None
    async with AwsSession() as session:
        yield Stores(DynamoChannels(session, place), CachedDomains(SsmDomains(session)))


def sqlite_path(url: str) -> Path:
    """The file of sqlite:///path: from the working directory with three slashes, absolute with four."""
    return Path(url.removeprefix("sqlite:///")).expanduser()
