"""The stored record of a deleted channel. It keeps the protection of the channel's media."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.channels.channel import ID, Channel
from gateway.channels.fields import NO_PLAYBACK

# The fields that the record keeps: the name, the protection of playback, and the days after which media are deleted.
RECORD_FIELDS: Final = ("videoname", "playAuth", "refererAllow", "retentionDays")
DELETED_AT: Final = "deletedAt"
MEDIA: Final = "media"
_KEEP, _DELETE = "keep", "delete"
_YEAR_10000: Final = 253_402_300_800  # seconds since 1970; later times cannot be shown


@dataclass(frozen=True, slots=True)
class DeletedChannel:
    """A view of one stored item. It contains no key and no address, so it cannot authorize a push."""

    item: Mapping[str, Any]

    @classmethod
    def of(cls, id: str, channel: Channel | None, now: float, *, media: bool) -> DeletedChannel:
        """Creates the record. now: seconds since 1970. media: whether to delete its media too.

        channel: None if its row cannot be read. Then its protection is unknown, and nobody may play its media.
        """
        item = channel.item if channel is not None else {"playAuth": NO_PLAYBACK}
        copied = {name: item[name] for name in RECORD_FIELDS if name in item}
        return cls({ID: id, **copied, DELETED_AT: round(now, 3), MEDIA: _DELETE if media else _KEEP})

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def channel(self) -> Channel:
        """The fields that apply to the channel's media, as a Channel."""
        return Channel(self.item)

    @property
    def deleted_at(self) -> float:
        """The time of deletion, in seconds since 1970; 0 if the item does not contain it, or no time."""
        value = self.item.get(DELETED_AT)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return 0.0
        return float(value) if 0 <= value < _YEAR_10000 else 0.0

    @property
    def deletes_media(self) -> bool:
        """Whether its media are deleted or will be. Such media are not listed. An invalid value means deleted."""
        return self.item.get(MEDIA) != _KEEP

    def with_media_deletion(self) -> DeletedChannel:
        """Returns a copy that marks the media for deletion."""
        return DeletedChannel({**self.item, MEDIA: _DELETE})
