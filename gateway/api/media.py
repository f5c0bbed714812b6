"""Stored media of channels, mainly of deleted ones: lists them with their addresses, and deletes them."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import recordings
from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.channels import MEDIA_SECONDS
from gateway.api.context import CONTEXT, Context
from gateway.api.jobs import vod_query
from gateway.api.presenter import Presenter
from gateway.api.sessions import rfc3339
from gateway.channels.channel import ID, Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.media_owners import MediaOwner
from gateway.channels.names import is_channel_id, is_object_key
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.outputs.storage.recording_index import LISTED, RecordingIndex, StoredRecording
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, NoSuchObject
from gateway.ports.stores import Object, ObjectStore
from gateway.ports.vod_names import VodNames, vod_names_of

log = structlog.get_logger(__name__)

FILM: Final = "film"
_MAX_CONCURRENT: Final = 16  # channels that are looked up in the object store at the same time
CHANNEL_QUERY: Final = (("channel", "the id of the channel, which may be deleted"),)
PAGE_QUERY: Final = (
    ("channel", "the id of a channel (all deleted ones, the last deleted one first)"),
    ("kind", f"{', '.join((*LISTED, FILM))}, or several with commas ({','.join(LISTED)})"),
    ("limit", recordings.LIMIT_HELP),
    ("before", "the key of the last one of a page: only those that come after it"),
)
RECORDING_QUERY: Final = (*CHANNEL_QUERY, ("key", "the key of one recording (all media of the channel)"))


async def index(request: web.Request) -> web.Response:
    """Returns the media of one channel, newest first, or of all deleted channels."""
    context = request.app[CONTEXT]
    words = [word for word in request.query.get("kind", "").split(",") if word]
    kinds = recordings.kinds_of(",".join(w for w in words if w != FILM), () if FILM in words else LISTED)
    limit, before = recordings.limit_of(request.query.get("limit", "")), request.query.get("before", "")
    if context.objects is None:
        return answer([])
    finder = _Finder(context, context.objects, await context.presenter(request), kinds, FILM in words)
    last = await finder.place(before) if before else None
    id = request.query.get("channel")
    if id is None:
        return answer(await _kept(context, finder, limit, before.partition("/")[0], last))
    if not is_channel_id(id):
        raise BadRequest("expected the id of a channel", field="channel")
    if before and not before.startswith(f"{id}/"):
        raise BadRequest("expected the key of an item of this channel", field="before")
    return answer(await finder.find(id, await context.owners.find(id), limit, last))


async def channels(request: web.Request) -> web.Response:
    """Returns the deleted channels, the last deleted one first. Some may have no media any more."""
    return answer(
        [
            {"id": one.id, "videoname": one.channel.name, "deleted": rfc3339(one.deleted_at)}
            for one in await _deleted(request.app[CONTEXT])
        ]
    )


async def delete(request: web.Request) -> web.Response:
    """Deletes all media of a deleted channel, or one recording of it.

    They are not served any more from now on. 202: the deletion continues in the background.
    """
    context = request.app[CONTEXT]
    id, key = request.query.get("channel", ""), request.query.get("key")
    if not is_channel_id(id):
        raise BadRequest("expected the id of a deleted channel", field="channel")
    deletion, objects = context.media_deletion, context.objects
    if deletion is None or objects is None:
        raise Missing("nothing is stored here")
    try:
        await context.channels.get(id)
    except NoSuchChannel:
        pass  # expected: the channel was deleted
    else:
        raise Conflict("the channel exists: delete its recordings, or the channel with media=delete")
    if key is not None:
        return await _delete_one(objects, id, key)
    await deletion.check()
    deleted = await _losing(context, deletion, id)
    await context.channels.put_deleted(deleted)
    context.forget(id)
    await context.cluster.changed(id)
    log.info("media of a deleted channel are to be deleted", channel=id)
    done = deletion.begin(deleted) and await deletion.passed(id, MEDIA_SECONDS)
    return answer({"channel": id, "key": None, "deleted": done}, 200 if done else 202)


async def _delete_one(objects: ObjectStore, id: str, key: str) -> web.Response:
    if not key.startswith(f"{id}/"):
        raise BadRequest("expected the key of a recording of this channel", field="key")
    try:
        await RecordingIndex(objects).delete(key)
    except NoSuchObject:
        raise Missing("no such recording") from None
    log.info("recording deleted", channel=id, object=key)
    return answer({"channel": id, "key": key, "deleted": True})


async def _losing(context: Context, deletion: MediaDeletion, id: str) -> DeletedChannel:
    """Returns the entry to store for the deleted channel.

    A channel without an entry may have been deleted by an older version.
    """
    try:
        return (await context.channels.get_deleted(id)).with_media_deletion()
    except NoSuchChannel:
        if not await deletion.any_of(id, films=False):  # a folder that holds only VODs may not belong to a channel
            raise Missing("there are no media of such a channel") from None
        return DeletedChannel.of(Channel({ID: id}), context.clock(), media=True)


async def _deleted(context: Context) -> list[DeletedChannel]:
    """Returns the deleted channels whose media are kept, the last deleted one first."""
    found = [d for d in await context.channels.list_deleted() if not d.without_media]
    existing = {channel.id for channel in await context.channels.list()} if found else set()
    return sorted((d for d in found if d.id not in existing), key=_order)


def _order(deleted: DeletedChannel) -> tuple[float, str]:
    return -deleted.deleted_at, deleted.id


async def _kept(
    context: Context, finder: _Finder, limit: int, after: str, last: tuple[float, str] | None
) -> list[dict[str, Any]]:
    """Returns a page of the media of all deleted channels.

    after, last: the channel and the place at which the previous page ended; "" and None for the first page.
    """
    kept = await _deleted(context)
    if after:
        try:
            place = _order(await context.channels.get_deleted(after))
        except NoSuchChannel:
            raise BadRequest("expected the key of an item of a deleted channel", field="before") from None
        kept = [deleted for deleted in kept if _order(deleted) >= place]
    page: list[dict[str, Any]] = []
    for first in range(0, len(kept), _MAX_CONCURRENT):
        some = kept[first : first + _MAX_CONCURRENT]
        stored = await asyncio.gather(*(finder.anything(deleted.id) for deleted in some))
        for deleted in (one for one, there in zip(some, stored, strict=True) if there):
            begun = last if deleted.id == after else None
            page += await finder.find(deleted.id, MediaOwner.of(deleted), limit - len(page), begun)
            if len(page) == limit:
                return page
    return page


class _Finder:
    """Finds and shows the stored media of a channel. films: also the VODs stored below its id."""

    def __init__(
        self,
        context: Context,
        objects: ObjectStore,
        presenter: Presenter,
        kinds: tuple[media_keys.MediaKind, ...],
        films: bool,
    ) -> None:
        self._context = context
        self._objects = objects
        self._presenter = presenter
        self._kinds = kinds
        self._films = films

    async def place(self, key: str) -> tuple[float, str]:
        """Returns an item's place in the order of a channel's items: its start and its key. Raises BadRequest."""
        named = media_keys.parse(key)
        if named is not None:
            return named.start, key
        if is_object_key(key) and _film_below(key) is not None:
            try:
                return (await self._objects.head(key)).modified, key
            except NoSuchObject:
                pass  # it was deleted, so its place is unknown
        raise BadRequest("expected the key of an item", field="before")

    async def anything(self, id: str) -> bool:
        """Whether there are any media of the channel."""
        deletion = self._context.media_deletion
        return deletion is None or await deletion.any_of(id)

    async def find(
        self, id: str, owner: MediaOwner | None, limit: int, last: tuple[float, str] | None
    ) -> list[dict[str, Any]]:
        """Returns the newest items after `last`. Media that are deleted or wait for deletion are left out."""
        if owner is not None and owner.without_media:
            return []
        found: list[tuple[float, str, StoredRecording | Object]] = []
        if self._kinds:
            found += [
                (k.start, k.key, k)
                for k in await RecordingIndex(self._objects).list(id, limit, last or "", self._kinds)
            ]
        if self._films:
            found += [(film.modified, film.key, film) for film in await self._masters(id, limit, last)]
        found.sort(key=lambda entry: entry[:2], reverse=True)
        channel = owner.channel if owner is not None else None
        url = recordings.addresses(channel, self._presenter, self._context.clock())
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def shown(item: StoredRecording | Object) -> dict[str, Any]:
            if isinstance(item, StoredRecording):
                return recordings.shown(item, url)
            async with slots:
                return await self._film(item, owner)

        page = await asyncio.gather(*(shown(item) for _, _, item in found[:limit]))
        return [{"channel": id, **self._of(owner), **one} for one in page]

    def _of(self, owner: MediaOwner | None) -> dict[str, Any]:
        if owner is None:
            return {"videoname": "", "deleted": None}
        at = owner.deleted_at
        return {"videoname": owner.channel.name, "deleted": rfc3339(at) if at is not None else None}

    async def _masters(self, id: str, limit: int, last: tuple[float, str] | None) -> list[Object]:
        """Returns the first playlists of the newest VODs."""
        newest: list[tuple[float, str, int]] = []
        async for item in self._objects.list(f"{id}/"):
            if _film_below(item.key) is not None and (last is None or (item.modified, item.key) < last):
                heapq.heappush(newest, (item.modified, item.key, item.size))
                if len(newest) > limit:
                    heapq.heappop(newest)
        return [Object(key, size, modified) for modified, key, size in newest]

    async def _film(self, item: Object, owner: MediaOwner | None) -> dict[str, Any]:
        names = _film_below(item.key)
        assert names is not None  # _masters found it
        base = f"{self._presenter.addresses.pull}/vod/"
        if owner is not None:
            query = self._presenter.play_query(owner.channel, self._context.clock())
        else:
            query = vod_query(self._context, names.prefix)
        try:
            poster = (await self._objects.head(names.key(names.poster))).key
        except NoSuchObject:
            poster = None
        # The same rule as in playback.vod_files.
        served = owner is not None or media_keys.parse(f"{names.prefix}.mp4") is None
        return {
            "key": item.key,
            "kind": FILM,
            "start": rfc3339(item.modified),
            "seconds": None,
            "size": item.size,
            "url": f"{base}{quote(item.key)}{query}" if served else None,
            "poster": f"{base}{quote(poster)}{query}" if served and poster is not None else None,
        }


def _film_below(key: str) -> VodNames | None:
    """Returns the names of the VOD below a channel's id whose first playlist is `key`; None for any other key."""
    return vod_names_of(key) if key.count("/") > 1 else None
