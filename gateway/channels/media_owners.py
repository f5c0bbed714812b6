"""Finds the channel whose settings protect stored media. This channel may be deleted."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.stores import ChannelReader, StoredChannels
from gateway.ports.errors import NoSuchChannel


@dataclass(frozen=True, slots=True)
class MediaOwner:
    """The channel that owns stored media.

    channel: the settings that protect the media.
    deleted_at: seconds since 1970; None: the channel exists.
    deletes_media: whether its media are deleted or will be. Then none of them may be served.
    """

    channel: Channel
    deleted_at: float | None = None
    deletes_media: bool = False

    @classmethod
    def of(cls, deleted: DeletedChannel) -> MediaOwner:
        return cls(deleted.channel, deleted.deleted_at, deleted.deletes_media)


class MediaOwners:
    """Finds the owners of media.

    channels: reads existing channels.
    deleted: reads the records of deleted channels, as Channel; None: no records exist.

    An existing channel owns all media below its id, including media of an earlier channel with that id.
    """

    def __init__(self, channels: ChannelReader, deleted: ChannelReader | None = None) -> None:
        self._channels = channels
        self._deleted = deleted

    async def find(self, id: str) -> MediaOwner | None:
        """Returns the owner; None if no channel and no record has this id. Raises StoreUnavailable."""
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
        # Not `deleted.channel`, which is a new object: `PlaybackProtection` caches rules for the same Channel object.
        return MediaOwner(channel, deleted.deleted_at, deleted.deletes_media)


class StoredDeletions:
    """A ChannelReader for the deleted channels of a store. Put CachedChannels in front of it."""

    def __init__(self, store: StoredChannels) -> None:
        self._store = store

    async def get(self, id: str) -> Channel:
        """Returns the record of a deleted channel. Raises NoSuchChannel, StoreUnavailable."""
        return (await self._store.get_deleted(id)).channel
