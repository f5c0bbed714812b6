"""Serves finished VODs below `/vod/<folder>/`, and nothing else of their store."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.channels.media_owners import MediaOwner, MediaOwners
from gateway.channels.names import is_channel_id
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.playback.protection import PlaybackProtection
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable
from gateway.ports.vod_names import is_vod_file, play_name

_NONE: Final = text(404, "no such film")
_CACHE: Final = "public, max-age=600"  # a VOD that is made again has the same names


class VodFileSource(Protocol):
    """The source of VODs: RecordingFiles, or another node."""

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """Serves the file `key`. cache: how long players may keep it."""
        ...


class VodFiles:
    """Answers `<folder>/<file>` if the file has the name of a VOD's file.

    VODs follow the gateway's own playback rules.
    A VOD below a channel's id, such as one made of a recording, follows the channel's rules, even after its deletion.
    A VOD of a recording whose channel is unknown is answered with 404.
    A play sign is made for `gateway.ports.vod_names.play_name` of the folder.
    """

    def __init__(self, films: VodFileSource, protection: PlaybackProtection, owners: MediaOwners) -> None:
        self._films = films
        self._protection = protection
        self._owners = owners

    async def __call__(self, request: Request, path: str) -> Response:
        return await self._answer(request, path, judged=False)

    async def unjudged(self, request: Request, path: str) -> Response:
        """Does the same for another node, which has already checked the viewer."""
        return await self._answer(request, path, judged=True)

    async def _answer(self, request: Request, path: str, *, judged: bool) -> Response:
        if not is_vod_file(path):
            return _NONE
        folder = path.rpartition("/")[0]
        try:
            owner = await self._owner(folder)
        except StoreUnavailable as away:
            return service_unavailable("the channels cannot be read now", away.retry_after)
        if not judged:
            channel = owner.channel if owner is not None else None
            refusal = self._protection.judge(request, channel.id if channel else play_name(folder), channel)
            if refusal is not None:
                return refusal
        return _NONE if _is_withheld(folder, owner) else await self._films.serve(request, path, _CACHE)

    async def _owner(self, folder: str) -> MediaOwner | None:
        """Returns the owner of the channel whose id the folder lies below, if there is or was one.

        Raises StoreUnavailable.
        """
        id, slash, _ = folder.partition("/")
        return await self._owners.find(id) if slash and is_channel_id(id) else None


def _is_withheld(folder: str, owner: MediaOwner | None) -> bool:
    """Whether a folder's VODs are served to no viewer: they were deleted, or their protection is unknown."""
    if owner is not None:
        return owner.without_media
    return media_keys.parse(f"{folder}.mp4") is not None
