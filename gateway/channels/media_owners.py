"""Finds the channel whose settings protect stored media. The channel may be deleted."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.stores import ChannelReader, ChannelStore
from gateway.ports.errors import NoSuchChannel


@dataclass(frozen=True, slots=True)
class MediaOwner:
    """The owner of stored media.

    channel: its settings protect the media.
    deleted_at: seconds since the epoch; None: the channel exists.
    without_media: whether its media were deleted, so that none may be served.
    """

    channel: Channel
    deleted_at: float | None = None
    without_media: bool = False

    @classmethod
    def of(cls, deleted: DeletedChannel) -> MediaOwner:
        return cls(deleted.channel, deleted.deleted_at, deleted.without_media)


class MediaOwners:
    """Finds the owners of media.

    channels: reads existing channels.
    deleted: reads the stored rest of deleted channels, as Channel; None: there is none.

    An existing channel owns everything below its id, also media of an earlier channel with that id.
    """

    def __init__(self, channels: ChannelReader, deleted: ChannelReader | None = None) -> None:
        self._channels = channels
        self._deleted = deleted

    async def find(self, id: str) -> MediaOwner | None:
        """Returns the owner; None if no channel of this id exists or is known to have existed.

        Raises StoreUnavailable.
        """
        try:
            return MediaOwner(await self._channels.get(id))
        except NoSuchChannel:
            if self._deleted is None:
                return None
        try:
            channel = await self._deleted.get(id)
        except NoSuchChannel:
            return None
        deleted = DeletedChannel(channel.item)
        # Not `deleted.channel`: results are cached on this very Channel object.
        return MediaOwner(channel, deleted.deleted_at, deleted.without_media)


class StoredDeletions:
    """A ChannelReader for the deleted channels of a store. Put CachedChannels in front of it."""

    def __init__(self, store: ChannelStore) -> None:
        self._store = store

    async def get(self, id: str) -> Channel:
        """Returns the stored rest of a deleted channel. Raises NoSuchChannel, StoreUnavailable."""
        return (await self._store.get_deleted(id)).channel
