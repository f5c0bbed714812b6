"""Joins the media of a trim to the source of its film."""

from dataclasses import dataclass
from pathlib import Path

from gateway.channels.media_owners import MediaOwners
from gateway.outputs.clips.clip_service import ClipService
from gateway.ports.errors import AtCapacity, CannotCut, InvalidField, NothingRecorded, StoreUnavailable
from gateway.ports.media_keys import Trim

_AGAIN_SECONDS = 10  # after which a trim that finds no place is tried again


@dataclass(frozen=True, slots=True)
class Trims:
    """Implements `vod.sources.TrimSource`."""

    clips: ClipService
    owners: MediaOwners

    async def save(self, trim: Trim, file: Path) -> None:
        """Writes the media of a trim as an MP4. Raises InvalidField if they do not exist, StoreUnavailable, OSError."""
        owner = await self.owners.find(trim.channel)
        if owner is None:
            raise InvalidField("source", "there is no such channel")
        try:
            await self.clips.save(owner.channel, trim.start, trim.end, file)
        except (NothingRecorded, CannotCut) as error:
            raise InvalidField("source", str(error)) from None
        except AtCapacity as error:
            raise StoreUnavailable(str(error), _AGAIN_SECONDS) from None
