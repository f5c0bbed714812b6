"""The channels as playback reads them: from caches before their store."""

from __future__ import annotations

from gateway.channels.cached_channels import CachedChannels
from gateway.channels.media_owners import MediaOwners
from gateway.channels.stores import ChannelReader


class ChannelCaches:
    """The caches of channels and of what remains of deleted ones.

    fresh: the channels' store. deleted: the remains'. owners: finds the channel that protects stored media.
    """

    def __init__(self, fresh: ChannelReader, deleted: ChannelReader) -> None:
        self.fresh = fresh
        self.cached = CachedChannels(fresh)
        self.deleted = CachedChannels(deleted)
        self.owners = MediaOwners(self.cached, self.deleted)

    def forget(self, id: str) -> None:
        """Drops a changed or deleted channel, so that its store is asked the next time."""
        self.cached.forget(id)
        self.deleted.forget(id)
