"""Lists the recordings and pictures of a channel with their addresses, and deletes one. Lists and empties the bin."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import recording_schemas
from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.channels import FINAL_QUERY, author, is_final, stored_channel
from gateway.api.context import CONTEXT
from gateway.api.forwarding import session_elsewhere
from gateway.api.jobs import VOD_SERVICE
from gateway.api.moments import page_limit, read_moment
from gateway.api.presenter import Presenter
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.api.settings_events import record_change
from gateway.channels.channel import Channel
from gateway.channels.channel_events import Change, What
from gateway.channels.deleted_channel import DeletedChannel
from gateway.lib.rfc3339 import rfc3339
from gateway.outputs.storage.recording_index import LISTED, RECORDED, RecordingIndex, StoredRecording
from gateway.playback.replays import Replays
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchChannel, NoSuchObject
from gateway.ports.media_keys import MediaKind
from gateway.vod.bin import FILM, Bin, BinEntry
from gateway.vod.session_records import SessionRecord

log = structlog.get_logger(__name__)

FOLDER: Final = web.AppKey("folder", Path)  # for files until they are stored
REPLAYS: Final = web.AppKey("replays", Replays)
BIN: Final = web.AppKey("bin", Bin)
RETENTION_DAYS: Final = web.AppKey("retention days", int)  # of channels without their own
NOT_A_SESSION: Final = {"title": "", "hidden": False, "page": None, "until": None}  # the fields of other media
_DEFAULT_LIMIT, _MAX_LIMIT = 50, 500
LIMIT_HELP: Final = f"the number of items, 1 to {_MAX_LIMIT} (default {_DEFAULT_LIMIT})"
PAGE_QUERY: Final = (
    ("kind", f"{', '.join(LISTED)}, or several with commas (default {','.join(RECORDED)})"),
    ("limit", LIMIT_HELP),
    ("before", "the key of a recording, or a time in ISO form: only older ones"),
)


@operation(list[recording_schemas.Recording], query=PAGE_QUERY)
async def index(request: web.Request) -> web.Response:
    """List the recordings of a channel, the newest first."""
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    kinds, limit = kinds_of(request.query.get("kind", "")), limit_of(request.query.get("limit", ""))
    before = _position(request.query.get("before", ""), channel.id)
    recordings = await RecordingIndex(context.objects).list(channel.id, limit, before, kinds)
    url = addresses(channel, await context.presenter(request), context.clock())
    days = retention_days(channel, request.app[RETENTION_DAYS])
    return answer([present(recording, url, days) for recording in recordings])


def retention_days(channel: Channel | None, default: int) -> int:
    """Returns the days after which recordings of a channel are deleted; 0: never."""
    days = channel.retention_days if channel is not None else None
    return default if days is None else days


def _position(text: str, channel: str) -> str | tuple[float, str]:
    """Returns the position behind which a page begins: a key, or a time and "". Raises BadRequest."""
    if not text or text.startswith(f"{channel}/"):
        return text
    return read_moment(text, "before"), ""


def addresses(channel: Channel | None, presenter: Presenter, now: float) -> Callable[[str], str | None]:
    """Returns a function that returns the address of a key. All addresses get one play signature.

    channel: its protection applies to the media; None: it is unknown, so the media are not served.
    """
    if channel is None:
        return lambda key: None
    folder, query = f"{channel.id}/", presenter.play_query(channel, now)
    base = f"{presenter.addresses.pull}/{folder}vod/"
    return lambda key: f"{base}{quote(key.removeprefix(folder))}{query}"


def present(recording: StoredRecording, url: Callable[[str], str | None], days: int) -> dict[str, Any]:
    """Returns a recording as the API shows it. url: the function from `addresses`. days: of its retention."""
    known: dict[str, Any] = {"poster": None if recording.poster is None else url(recording.poster), **NOT_A_SESSION}
    if recording.kind is MediaKind.ONDEMAND:
        known |= session_fields(recording.key, recording.record, url)
    if days and recording.kind is not MediaKind.CLIP:
        known["until"] = rfc3339(max(recording.start, recording.modified) + days * 86_400)
    start, address = rfc3339(recording.start), url(recording.key)
    return to_answer(recording_schemas.Recording, recording, start=start, url=address, **known)


def session_fields(key: str, record: SessionRecord, url: Callable[[str], str | None]) -> dict[str, Any]:
    """Returns the fields that only sessions have. key: of its playlist. url: the function from `addresses`."""
    page, poster = (
        None if record.hidden else url(media_keys.session_file_key(key, file)) for file in ("", "poster.jpg")
    )
    return {"title": record.title, "hidden": record.hidden, "page": page, "poster": poster}


@operation(recording_schemas.DeletedRecording, statuses=(409,), query=(FINAL_QUERY,))
async def delete(request: web.Request) -> web.Response:
    """Delete a recording; an on-demand session with its segments.

    It can be restored from the bin for some hours (`recording.bin_hours`).
    Raises Conflict for a session that is still being recorded.
    """
    channel = await stored_channel(request)
    key = f"{channel.id}/{request.match_info['path']}"
    if any(output.get("playlist") == key for output in await _live_outputs(request, channel.id)):
        raise Conflict("this session is being recorded: end it first")
    await delete_stored(request, channel.id, key)
    return answer({"key": key, "deleted": True})


async def delete_stored(request: web.Request, id: str, key: str) -> None:
    """Deletes a recording of a channel; the query says whether it goes into the bin. Raises BadRequest, Missing."""
    context, bin, final = request.app[CONTEXT], request.app[BIN], is_final(request)
    try:
        files = await RecordingIndex(context.objects).files_of(key)
    except NoSuchObject:
        raise Missing("no such recording") from None
    delete_files = bin.discard if final else bin.put
    await delete_files(BinEntry(_kind_of(key), key, context.clock()), files)
    request.app[REPLAYS].forget(id)
    await record_change(request, "recording", "deleted_for_good" if final else "deleted", key, channel=id)
    log.info("recording deleted", channel=id, object=key)


def _kind_of(key: str) -> str:
    parsed = media_keys.parse(key)
    assert parsed is not None, "the index knows the recording"
    return parsed.kind


async def _live_outputs(request: web.Request, id: str) -> Sequence[Mapping[str, Any]]:
    """Returns the outputs of the channel's live stream, on any node."""
    stream = request.app[CONTEXT].hub.find(id)
    if stream is not None:
        return stream.outputs.status() if stream.outputs is not None else ()
    session = await session_elsewhere(request, id)
    return session["outputs"] if session is not None else ()


def kinds_of(text: str, default: tuple[MediaKind, ...] = RECORDED) -> tuple[MediaKind, ...]:
    """Returns the kinds in a query; `default` if it has none. Raises BadRequest."""
    if not text:
        return default
    names = set(text.split(","))
    if not names <= set(LISTED):
        raise BadRequest(f"expected one or more of {', '.join(LISTED)}", field="kind")
    return tuple(kind for kind in LISTED if kind in names)


def limit_of(text: str) -> int:
    """Returns the limit of a query. Raises BadRequest."""
    return page_limit(text, _MAX_LIMIT) if text else _DEFAULT_LIMIT


@operation(list[recording_schemas.BinItem], statuses=(503,))
async def bin_entries(request: web.Request) -> web.Response:
    """List the deleted channels, recordings and films that can be restored, the newest deletion first."""
    bin, changes = request.app[BIN], request.app[CONTEXT].changes
    items = [_present_channel(deleted, bin.hours) for deleted in await changes.bin()]
    items += [_present_entry(entry, bin.hours) for entry in await bin.entries()]
    return answer(sorted(items, key=lambda item: str(item["deleted"]), reverse=True))


@operation(recording_schemas.Restored, statuses=(409, 503))
async def restore(request: web.Request) -> web.Response:
    """Restore a deleted channel, recording or film.

    A channel has its key and all settings again. If another channel has its slug by now, it has none; `text` says so.
    """
    bin, entry = request.app[BIN], await _entry(request)
    if isinstance(entry, DeletedChannel):
        return await _restore_channel(request, entry)
    if entry.kind == FILM:
        await request.app[VOD_SERVICE].films.restore(entry)
    else:
        await bin.restore(entry)
    await _record(request, entry, "restored")
    return answer({"id": entry.id, "key": entry.key})


@operation(recording_schemas.Restored, statuses=(503,))
async def delete_for_good(request: web.Request) -> web.Response:
    """Delete a channel, recording or film in the bin for good."""
    entry = await _entry(request)
    if isinstance(entry, DeletedChannel):
        await request.app[CONTEXT].changes.delete_for_good(entry)
        await record_change(request, "channel", "deleted_for_good", entry.channel.name, channel=entry.id)
        return answer({"id": entry.id, "key": entry.id})
    await request.app[BIN].delete(entry)
    await _record(request, entry, "deleted_for_good")
    return answer({"id": entry.id, "key": entry.key})


@operation(list[recording_schemas.Restored], statuses=(503,))
async def empty_bin(request: web.Request) -> web.Response:
    """Delete everything in the bin for good."""
    bin, changes, deleted = request.app[BIN], request.app[CONTEXT].changes, []
    for channel in await changes.bin():
        await changes.delete_for_good(channel)
        deleted.append({"id": channel.id, "key": channel.id})
    for entry in await bin.entries():
        await bin.delete(entry)
        deleted.append({"id": entry.id, "key": entry.key})
    await record_change(request, "bin", "deleted_for_good")
    return answer(deleted)


async def _record(request: web.Request, entry: BinEntry, change: Change) -> None:
    """Writes the event of a change of a film or recording in the bin."""
    parsed = media_keys.parse(entry.key)
    what: What = "film" if entry.kind == FILM else "recording"
    await record_change(request, what, change, entry.key, channel="" if parsed is None else parsed.channel)


async def _restore_channel(request: web.Request, deleted: DeletedChannel) -> web.Response:
    """Restores a channel. Raises ChannelExists."""
    restored = await request.app[CONTEXT].changes.restore(deleted.id, author(request))
    slug = deleted.restorable.slug if deleted.restorable is not None else ""
    lost = slug and not restored.slug
    text = {"text": f"another channel has the address /{slug}/ now, so this one has none"} if lost else {}
    return answer({"id": deleted.id, "key": deleted.id, **text})


def _present_channel(deleted: DeletedChannel, hours: int) -> dict[str, Any]:
    return {
        "id": deleted.id,
        "kind": "channel",
        "key": deleted.id,
        "title": deleted.channel.name,
        "channel": deleted.id,
        "start": None,
        "deleted": rfc3339(deleted.deleted_at),
        "size": 0,
        "until": rfc3339(deleted.deleted_at + hours * 3600),
    }


def _present_entry(entry: BinEntry, hours: int) -> dict[str, Any]:
    parsed = media_keys.parse(entry.key)
    return to_answer(
        recording_schemas.BinItem,
        entry,
        title=entry.film.get("title"),
        channel=parsed.channel if parsed is not None else None,
        start=rfc3339(parsed.start) if parsed is not None else None,
        deleted=rfc3339(entry.deleted),
        until=rfc3339(entry.deleted + hours * 3600),
    )


async def _entry(request: web.Request) -> BinEntry | DeletedChannel:
    """Returns the entry of the request: the id of a channel, or that of another deletion. Raises Missing."""
    id = request.match_info["id"]
    with suppress(NoSuchObject):
        return await request.app[BIN].get(id)
    try:
        return await request.app[CONTEXT].changes.in_bin(id)
    except NoSuchChannel:
        raise Missing("it is not in the bin: it was restored, or deleted for good") from None
