"""VodFiles: finished films below `/vod/<folder>/`, and nothing else of the store that they lie in."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.hub.channel import Channel
from gateway.hub.errors import NoSuchChannel, StoreAway
from gateway.hub.names import is_channel_id
from gateway.hub.ports import ChannelReader
from gateway.servers.protection import Protection
from gateway.servers.request import Request
from gateway.servers.response import Response, text, try_later
from gateway.vod.naming import names_in, play_name

_NONE: Final = text(404, "no such film")
_CACHE: Final = "public, max-age=600"  # a film that is made anew has the same names


class Films(Protocol):
    """Where films are: Recordings, or another node."""

    async def serve(self, request: Request, key: str, cache: str) -> Response:
        """The file `key`; cache: how long players may keep it."""
        ...


class VodFiles:
    """Answers `<folder>/<file>` where the file is called as those that films become.

    The rules for playing are the gateway's own; a film that was made of a channel's recording lies below the channel's
    id and obeys the channel's. A play sign is made for `gateway.vod.naming.play_name` of the folder.
    """

    def __init__(self, films: Films, protection: Protection, channels: ChannelReader) -> None:
        self._films = films
        self._protection = protection
        self._channels = channels

    async def __call__(self, request: Request, path: str) -> Response:
        if not _is_film(path):
            return _NONE
        folder = path.rpartition("/")[0]
        try:
            channel = await self._owner(folder)
        except StoreAway as away:
            return try_later("the channels cannot be read now", away.retry_after)
        name = channel.id if channel is not None else play_name(folder)
        refusal = self._protection.judge(request, name, channel)
        if refusal is not None:
            return refusal
        return await self._films.serve(request, path, _CACHE)

    async def unjudged(self, request: Request, path: str) -> Response:
        """The same for another node, which has judged who asks."""
        return await self._films.serve(request, path, _CACHE) if _is_film(path) else _NONE

    async def _owner(self, folder: str) -> Channel | None:
        """The channel below whose id the folder lies, if there is one. Raises StoreAway."""
        id, slash, _ = folder.partition("/")
        if not slash or not is_channel_id(id):
            return None
        try:
            return await self._channels.get(id)
        except NoSuchChannel:
            return None


def _is_film(path: str) -> bool:
    """Recordings and uploads lie in the same store: what does not look like a film's file is not there."""
    folder, _, file = path.rpartition("/")
    return bool(folder) and names_in(folder).has(file)
