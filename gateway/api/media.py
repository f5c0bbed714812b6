"""Lists and deletes the stored media of channels, mainly of deleted channels."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import recording_schemas, recordings
from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.channels import FINAL_QUERY, MEDIA_DELETION, MEDIA_DELETION_TIMEOUT
from gateway.api.context import CONTEXT, Context
from gateway.api.jobs import vod_query
from gateway.api.presenter import Presenter
from gateway.api.route import operation
from gateway.channels.channel import ID, Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.channels.media_owners import MediaOwner
from gateway.channels.names import is_channel_id, is_object_key
from gateway.lib.rfc3339 import rfc3339
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.outputs.storage.recording_index import LISTED, RecordingIndex, StoredRecording
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, NoSuchObject, UnreadableRow
from gateway.ports.stores import Object
from gateway.ports.vod_names import VodNames, vod_names_of

log = structlog.get_logger(__name__)

VOD_KIND: Final = "film"
_MAX_CONCURRENT: Final = 16  # channels whose media are listed at the same time
CHANNEL_QUERY: Final = (("channel", "the id of the channel, which may be deleted"),)
PAGE_QUERY: Final = (
    ("channel", "the id of a channel (default: all deleted channels, the newest deletion first)"),
    ("kind", f"{', '.join((*LISTED, VOD_KIND))}, or several with commas (default {','.join(LISTED)})"),
    ("limit", recordings.LIMIT_HELP),
    ("before", "the key of the last item of the previous page; the answer begins after it"),
)
RECORDING_QUERY: Final = (
    *CHANNEL_QUERY,
    ("key", "the key of one recording (default: all media of the channel, which do not go into the bin)"),
    FINAL_QUERY,
)


@operation(list[recording_schemas.Media], statuses=(503,), query=PAGE_QUERY)
async def index(request: web.Request) -> web.Response:
    """List the media of deleted channels, or of one channel."""
    context = request.app[CONTEXT]
    names = [name for name in request.query.get("kind", "").split(",") if name]
    recorded = ",".join(name for name in names if name != VOD_KIND)
    kinds = recordings.kinds_of(recorded, () if VOD_KIND in names else LISTED)
    limit, before = recordings.limit_of(request.query.get("limit", "")), request.query.get("before", "")
    lister = _MediaLister(
        context, await context.presenter(request), kinds, VOD_KIND in names, request.app[recordings.RETENTION_DAYS]
    )
    after = await lister.position_of(before) if before else None
    id = request.query.get("channel")
    if id is None:
        return answer(await _media_of_deleted(request, lister, limit, before.partition("/")[0], after))
    if not is_channel_id(id):
        raise BadRequest("expected the id of a channel", field="channel")
    if before and not before.startswith(f"{id}/"):
        raise BadRequest("expected the key of an item of this channel", field="before")
    return answer(await lister.page(id, await context.media_owners.find(id), limit, after))


@operation(list[recording_schemas.MediaChannel], statuses=(503,))
async def channels(request: web.Request) -> web.Response:
    """List the deleted channels with stored media.

    The newest deletion comes first. Some channels no longer have media.
    """
    return answer(
        [
            {"id": deleted.id, "videoname": deleted.channel.name, "deleted": rfc3339(deleted.deleted_at)}
            for deleted in await _deleted_channels(request.app[CONTEXT])
        ]
    )


@operation(recording_schemas.DeletedMedia, statuses=(202, 404, 409, 503), query=RECORDING_QUERY)
async def delete(request: web.Request) -> web.Response:
    """Delete the media of a deleted channel, or one recording of it.

    Playback of them stops immediately. 202: the deletion continues in the background.
    """
    context = request.app[CONTEXT]
    id, key = request.query.get("channel", ""), request.query.get("key")
    if not is_channel_id(id):
        raise BadRequest("expected the id of a deleted channel", field="channel")
    deletion = request.app[MEDIA_DELETION]
    try:
        await context.channels.get(id)
    except NoSuchChannel:
        pass  # expected: the channel was deleted
    else:
        raise Conflict("the channel exists: delete its recordings, or the channel with media=delete")
    if key is not None:
        if not key.startswith(f"{id}/"):
            raise BadRequest("expected the key of a recording of this channel", field="key")
        await recordings.delete_stored(request, id, key)
        return answer({"channel": id, "key": key, "deleted": True})
    await deletion.check()
    deleted = await _marked_for_deletion(context, deletion, id)
    await context.changes.delete_media(deleted)
    log.info("media of a deleted channel are to be deleted", channel=id)
    done = deletion.begin(deleted) and await deletion.wait_for_pass(id, MEDIA_DELETION_TIMEOUT)
    return answer({"channel": id, "key": None, "deleted": done}, 200 if done else 202)


async def _marked_for_deletion(context: Context, deletion: MediaDeletion, id: str) -> DeletedChannel:
    """Returns the entry to store for the deleted channel.

    A channel has none if another program deleted its row while it was not live. One that cannot be read is replaced.
    """
    try:
        return (await context.channels.get_deleted(id)).with_media_deletion()
    except UnreadableRow:
        pass
    except NoSuchChannel:
        if not await deletion.has_media(id, films=False):  # VODs alone do not prove that there was a channel
            raise Missing("this channel has no stored media") from None
    return DeletedChannel.of(id, Channel({ID: id}), context.clock(), media=True)


async def _deleted_channels(context: Context) -> list[DeletedChannel]:
    """Returns the deleted channels with stored media, the newest deletion first."""
    found = [d for d in await context.channels.list_deleted() if not d.deletes_media]
    existing = {channel.id for channel in await context.channels.list()} if found else set()
    return sorted((d for d in found if d.id not in existing), key=_sort_key)


def _sort_key(deleted: DeletedChannel) -> tuple[float, str]:
    return -deleted.deleted_at, deleted.id


async def _media_of_deleted(
    request: web.Request, lister: _MediaLister, limit: int, after_channel: str, after: tuple[float, str] | None
) -> list[dict[str, Any]]:
    """Returns a page of the media of all deleted channels.

    after_channel, after: channel and position of the last item of the previous page; "" and None: the first page.
    """
    context, deletion = request.app[CONTEXT], request.app[MEDIA_DELETION]
    channels = await _deleted_channels(context)
    if after_channel:
        try:
            begin = _sort_key(await context.channels.get_deleted(after_channel))
        except NoSuchChannel:
            raise BadRequest("expected the key of an item of a deleted channel", field="before") from None
        channels = [deleted for deleted in channels if _sort_key(deleted) >= begin]
    page: list[dict[str, Any]] = []
    for first in range(0, len(channels), _MAX_CONCURRENT):
        batch = channels[first : first + _MAX_CONCURRENT]
        stored = await asyncio.gather(*(deletion.has_media(deleted.id) for deleted in batch))
        for deleted in (deleted for deleted, has_media in zip(batch, stored, strict=True) if has_media):
            position = after if deleted.id == after_channel else None
            page += await lister.page(deleted.id, MediaOwner.of(deleted), limit - len(page), position)
            if len(page) == limit:
                return page
    return page


@dataclass(frozen=True, slots=True)
class _MediaLister:
    """Lists the stored media of a channel. with_vods: includes the VODs that are stored below its id.

    days: of the retention of channels without their own.
    """

    context: Context
    presenter: Presenter
    kinds: tuple[media_keys.MediaKind, ...]
    with_vods: bool
    days: int

    async def position_of(self, key: str) -> tuple[float, str]:
        """Returns the sort position of an item: its start and its key. Raises BadRequest."""
        parsed = media_keys.parse(key)
        if parsed is not None:
            return parsed.start, key
        if is_object_key(key) and _vod_names(key) is not None:
            try:
                return (await self.context.objects.head(key)).modified, key
            except NoSuchObject:
                pass  # the item was deleted, so its position is unknown
        raise BadRequest("expected the key of an item", field="before")

    async def page(
        self, id: str, owner: MediaOwner | None, limit: int, after: tuple[float, str] | None
    ) -> list[dict[str, Any]]:
        """Returns the newest items after the position `after`, without media that are deleted or wait for deletion."""
        if owner is not None and owner.deletes_media:
            return []
        found: list[tuple[float, str, StoredRecording | Object]] = []
        if self.kinds:
            found += [
                (recording.start, recording.key, recording)
                for recording in await RecordingIndex(self.context.objects).list(id, limit, after or "", self.kinds)
            ]
        if self.with_vods:
            found += [(vod.modified, vod.key, vod) for vod in await self._newest_vods(id, limit, after)]
        found.sort(key=lambda entry: entry[:2], reverse=True)
        channel = owner.channel if owner is not None else None
        url = recordings.addresses(channel, self.presenter, self.context.clock())
        days = recordings.retention_days(channel, self.days)
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def item_json(item: StoredRecording | Object) -> dict[str, Any]:
            if isinstance(item, StoredRecording):
                return recordings.present(item, url, days)
            async with slots:
                return await self._vod_json(item, owner)

        page = await asyncio.gather(*(item_json(item) for _, _, item in found[:limit]))
        return [{"channel": id, **_owner_fields(owner), **item} for item in page]

    async def _newest_vods(self, id: str, limit: int, after: tuple[float, str] | None) -> list[Object]:
        """Returns the multivariant playlists of the newest VODs."""
        newest: list[tuple[float, str, int]] = []
        async for item in self.context.objects.list(f"{id}/"):
            if _vod_names(item.key) is not None and (after is None or (item.modified, item.key) < after):
                heapq.heappush(newest, (item.modified, item.key, item.size))
                if len(newest) > limit:
                    heapq.heappop(newest)
        return [Object(key, size, modified) for modified, key, size in newest]

    async def _vod_json(self, item: Object, owner: MediaOwner | None) -> dict[str, Any]:
        names = _vod_names(item.key)
        assert names is not None  # _newest_vods found it
        base = f"{self.presenter.addresses.pull}/vod/"
        if owner is not None:
            query = self.presenter.play_query(owner.channel, self.context.clock())
        else:
            query = vod_query(self.context, names.prefix)
        try:
            poster = (await self.context.objects.head(names.key(names.poster))).key
        except NoSuchObject:
            poster = None
        # Must match the rule in playback.vod_files.
        served = owner is not None or not media_keys.is_of_channel(names.prefix)
        return {
            "key": item.key,
            "kind": VOD_KIND,
            "start": rfc3339(item.modified),
            "seconds": None,
            "size": item.size,
            "url": f"{base}{quote(item.key)}{query}" if served else None,
            "poster": f"{base}{quote(poster)}{query}" if served and poster is not None else None,
            **recordings.NOT_A_SESSION,
        }


def _owner_fields(owner: MediaOwner | None) -> dict[str, Any]:
    if owner is None:
        return {"videoname": "", "deleted": None}
    at = owner.deleted_at
    return {"videoname": owner.channel.name, "deleted": rfc3339(at) if at is not None else None}


def _vod_names(key: str) -> VodNames | None:
    """Returns the names of the VOD below a channel's id with the multivariant playlist `key`; None for other keys."""
    return vod_names_of(key) if key.count("/") > 1 else None
