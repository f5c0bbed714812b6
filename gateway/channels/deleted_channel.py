"""The stored rest of a deleted channel, which keeps the protection of its media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.channels.channel import ID, Channel

# The fields that are kept: its name, the protection of playback, and how long media are kept.
KEPT_FIELDS: Final = ("videoname", "playAuth", "refererAllow", "retentionDays")
DELETED_AT: Final = "deletedAt"
MEDIA: Final = "media"
_KEEP, _DELETE = "keep", "delete"


@dataclass(frozen=True, slots=True)
class DeletedChannel:
    """A view of one stored item. It contains no key and no address, so nothing can be pushed with it."""

    item: Mapping[str, Any]

    @classmethod
    def of(cls, channel: Channel, now: float, *, media: bool) -> DeletedChannel:
        """Makes the item. now: seconds since the epoch. media: whether its media are to be deleted too."""
        kept = {name: channel.item[name] for name in KEPT_FIELDS if name in channel.item}
        return cls({ID: channel.id, **kept, DELETED_AT: round(now, 3), MEDIA: _DELETE if media else _KEEP})

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def channel(self) -> Channel:
        """The fields of the channel that apply to its media, as a Channel."""
        return Channel(self.item)

    @property
    def deleted_at(self) -> float:
        """The time of deletion in seconds since the epoch; 0 if the item does not contain it."""
        value = self.item.get(DELETED_AT)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0

    @property
    def without_media(self) -> bool:
        """Whether its media are deleted or wait for deletion. No media are shown then. An invalid value counts as
        deleted.
        """
        return self.item.get(MEDIA) != _KEEP

    def with_media_deletion(self) -> DeletedChannel:
        """Returns a copy that says that the media are to be deleted too."""
        return DeletedChannel({**self.item, MEDIA: _DELETE})
