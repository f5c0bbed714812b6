"""The interfaces of the stores for channels and public domains. Adapters implement them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from gateway.channels.addresses import PublicDomains
from gateway.channels.channel import Channel
from gateway.channels.channel_list import ChannelPage, ChannelQuery
from gateway.channels.deleted_channel import DeletedChannel
from gateway.ports.errors import NoSuchChannel


class StoredChannels(Protocol):
    """Reads the stored channels. `ChannelChanges` changes them, because much follows a change.

    If the store does not respond, its methods raise StoreUnavailable within 8 s.
    """

    async def get(self, id: str) -> Channel:
        """Returns the stored channel, without a cache. Raises NoSuchChannel."""

    async def get_many(self, ids: Collection[str]) -> Mapping[str, Channel | None]:
        """Returns those of these channels that are stored. None: another program has made the row unreadable."""

    async def list(self) -> list[Channel]:
        """Returns all channels, in no defined order."""

    async def find(self, query: ChannelQuery) -> ChannelPage:
        """Returns a page of the list of channels for people."""

    async def get_deleted(self, id: str) -> DeletedChannel:
        """Returns the record of a deleted channel, even if a channel with this id exists again.

        Raises NoSuchChannel.
        """

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        """Returns all deleted channels, in no defined order."""

    async def check(self) -> None:
        """Returns if the store responds; used by the readiness check. Raises StoreUnavailable."""


class ChannelStore(StoredChannels, Protocol):
    """Stores channels. Its methods raise StoreUnavailable also if the store cannot write."""

    async def add(self, item: Mapping[str, Any]) -> Channel:
        """Stores a new channel under its `id`. Raises ChannelExists; SlugTaken if another channel has its slug."""

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        """Sets these fields in one step; others stay unchanged. Returns the changed channel.

        Raises NoSuchChannel; SlugTaken if another channel has the new slug, or an id equal to it. Of two channels that
        want one slug at the same time, one gets it.
        """

    async def delete(self, id: str, now: float, *, media: bool = False, restorable: bool = False) -> DeletedChannel:
        """Removes the channel and stores the DeletedChannel that protects its media, in one step.

        A channel whose row cannot be read is removed, too. now: seconds since 1970. media: whether to delete its media
        too. restorable: whether it goes into the bin. Raises NoSuchChannel.
        """

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        """Stores a deleted channel. Replaces an existing record."""

    async def remove_deleted(self, id: str) -> None:
        """Removes the record of a deleted channel. An unknown id is not an error."""


class ChannelReader(Protocol):
    """The part of a ChannelStore that playback needs. A cache in front of a store implements it too."""

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""


class DomainStore(Protocol):
    """Stores the push and pull domains. Raises StoreUnavailable like ChannelStore."""

    async def get_domains(self) -> PublicDomains:
        """Returns the configured domains; empty ones if none are configured."""

    async def set_domains(self, domains: PublicDomains) -> None:
        """Stores the domains. Removes a domain that is empty."""


async def find_channel(channels: ChannelReader, id: str) -> Channel | None:
    """Returns the channel, or None if it does not exist. Raises StoreUnavailable."""
    try:
        return await channels.get(id)
    except NoSuchChannel:
        return None
