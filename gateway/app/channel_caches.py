"""Caches of channels for playback, in front of their stores."""

from __future__ import annotations

from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners
from gateway.channels.stores import ChannelReader


class ChannelCaches:
    """The caches of channels and of the records of deleted channels.

    store: reads channels. deleted: reads the records of deleted channels. owners: finds the channel whose protection
    applies to stored media.
    """

    def __init__(self, store: ChannelReader, deleted: ChannelReader) -> None:
        self.store = store
        self.cached = CachedChannels(store)
        self.deleted = CachedChannels(deleted)
        self.owners = MediaOwners(self.cached, self.deleted)

    def forget(self, id: str) -> None:
        """Removes a changed or deleted channel from the caches, so that the next read uses its store."""
        self.cached.forget(id)
        self.deleted.forget(id)
