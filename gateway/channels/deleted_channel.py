"""The stored record of a deleted channel: the protection of its media, and the channel while it is in the bin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.channels.channel import ID, Channel
from gateway.channels.fields import NO_PLAYBACK

# The fields that the record keeps: the name, the protection of playback, and the days after which media are deleted.
RECORD_FIELDS: Final = ("videoname", "playAuth", "refererAllow", "retentionDays")
DELETED_AT: Final = "deletedAt"
MEDIA: Final = "media"
BIN: Final = "bin"  # the whole item of a channel that can be restored
_MAX_BIN: Final = 300_000  # bytes of it: an item of DynamoDB has at most 400 KB. A larger one does not go into the bin.
_KEEP, _DELETE = "keep", "delete"
_YEAR_10000: Final = 253_402_300_800  # seconds since 1970; later times cannot be shown


@dataclass(frozen=True, slots=True)
class DeletedChannel:
    """A view of one stored item. It has a key and addresses only while the channel can be restored from the bin.

    No push is compared with this key: it is inside of the item that waits.
    """

    item: Mapping[str, Any]

    @classmethod
    def of(
        cls, id: str, channel: Channel | None, now: float, *, media: bool, restorable: bool = False
    ) -> DeletedChannel:
        """Creates the record. now: seconds since 1970. media: whether to delete its media too.

        channel: None if its row cannot be read. Then its protection is unknown, and nobody may play its media.
        restorable: whether it goes into the bin.
        """
        item = channel.item if channel is not None else {"playAuth": NO_PLAYBACK}
        copied = {name: item[name] for name in RECORD_FIELDS if name in item}
        record = {ID: id, **copied, DELETED_AT: round(now, 3), MEDIA: _DELETE if media else _KEEP}
        if restorable and channel is not None and len(json.dumps(channel.item).encode()) <= _MAX_BIN:
            record[BIN] = dict(channel.item)
        return cls(record)

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def channel(self) -> Channel:
        """The fields that apply to the channel's media, as a Channel."""
        return Channel(self.without_bin().item)

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

    @property
    def restorable(self) -> Channel | None:
        """The channel as it was, while it is in the bin."""
        stored = self.item.get(BIN)
        return Channel(stored) if isinstance(stored, Mapping) and stored.get(ID) == self.id else None

    def without_bin(self) -> DeletedChannel:
        """Returns a copy that cannot be restored."""
        return DeletedChannel({name: value for name, value in self.item.items() if name != BIN})

    def with_media_deletion(self) -> DeletedChannel:
        """Returns a copy that marks the media for deletion."""
        return DeletedChannel({**self.item, MEDIA: _DELETE})
