"""Serves finished VODs and their player pages below `/vod/<folder>/`, and no other objects of their store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from urllib.parse import quote

from gateway.channels.media_owners import MediaOwner, MediaOwners
from gateway.channels.names import is_channel_id
from gateway.http.request import Request
from gateway.http.response import Response, moved, service_unavailable, text
from gateway.lib.content_types import is_media_name
from gateway.playback.pages import framed
from gateway.playback.play_hook import PlayHook
from gateway.playback.protection import PlaybackProtection
from gateway.ports import media_keys
from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import StoreUnavailable
from gateway.ports.vod_names import is_vod_file, play_name

_NO_VOD: Final = text(404, "no such film")
_CACHE: Final = "public, max-age=600"  # a VOD that is made again has the same names


# The player page of a VOD: respond(request, folder).
PageResponder: TypeAlias = Callable[[Request, str], Awaitable[Response]]


class VodFileSource(Protocol):
    """The source of VOD files: RecordingFiles, or another node."""

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """Serves the file `key`. cache: how long players may keep it."""


@dataclass(frozen=True, slots=True)
class VodFiles:
    """Answers `<folder>/<file>` if the file has the name of a VOD's file, and `<folder>/` with its player page.

    `<folder>` alone redirects to the page.
    The gateway's own playback rules apply to VODs.
    For a VOD below a channel's id (for example of a recording), the channel's rules apply, even after its deletion.
    A VOD of a recording whose channel is unknown is answered with 404.
    The name for play signs is `gateway.ports.vod_names.play_name` of the folder.
    hook: asks whether a viewer may fetch the files and the page, by the channel's id or the folder; None: nobody is
    asked.
    """

    files: VodFileSource
    page: PageResponder
    protection: PlaybackProtection
    owners: MediaOwners
    hook: PlayHook | None = None

    async def serve_node(self, request: Request, path: str) -> Response:
        """Answers another node, which has already authorized the viewer."""
        return await self(request, path, authorized=True)

    async def __call__(self, request: Request, path: str, *, authorized: bool = False) -> Response:
        folder, _, file = path.rpartition("/")
        if in_bin(path):
            return _NO_VOD
        if not file:
            if not folder:
                return _NO_VOD
        elif not is_vod_file(path):
            return _NO_VOD if is_media_name(file) else moved(request, f"{quote(file)}/")
        try:
            owner = await self._owner(folder)
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        channel = owner.channel if owner is not None else None
        if not authorized:
            refusal = self.protection.judge(request, channel.id if channel else play_name(folder), channel)
            if refusal is None and self.hook is not None:
                refusal = await self.hook.judge_file(request, channel.id if channel else folder, film=channel is None)
            if refusal is not None:
                return refusal
        if _is_withheld(folder, owner):
            return _NO_VOD
        if file:
            return await self.files.serve(request, path, _CACHE)
        page = await self.page(request, folder)
        return page if authorized else framed(page, self.protection.frame_ancestors(request, channel))

    async def _owner(self, folder: str) -> MediaOwner | None:
        """Returns the owner of the folder, if it is below the id of an existing or deleted channel.

        Raises StoreUnavailable.
        """
        id, slash, _ = folder.partition("/")
        return await self.owners.find(id) if slash and is_channel_id(id) else None


def _is_withheld(folder: str, owner: MediaOwner | None) -> bool:
    """Whether a folder's VODs must not be served: they were deleted, or their protection is unknown."""
    if owner is not None:
        return owner.deletes_media
    return media_keys.is_of_channel(folder)
