"""Changes what viewers see of recorded sessions, and makes videos of parts of them."""

from dataclasses import replace
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import recording_schemas, schemas
from gateway.api.answers import BadRequest, Missing, answer
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.clips import CLIPS
from gateway.api.context import CONTEXT
from gateway.api.jobs import VOD_SERVICE, present_jobs
from gateway.api.moments import read_moment, read_number
from gateway.api.recordings import FOLDER, REPLAYS, addresses, session_fields
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.outputs.storage.stored_pieces import StoredPieces
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.vod.session_records import read_session, store_session

log = structlog.get_logger(__name__)

_SINCE_START: Final = 1e8  # smaller numbers are seconds since the start of the session, not since 1970


@operation(recording_schemas.SessionTexts, body=recording_schemas.SessionChanges, statuses=(503,))
async def change(request: web.Request) -> web.Response:
    """Give an on-demand session a title, or hide it from viewers.

    A hidden session is not replayed, and its page is 404. Other nodes follow within 20 seconds.
    """
    context, channel = request.app[CONTEXT], await stored_channel(request)
    changes = await read(request, recording_schemas.SessionChanges)
    key = f"{channel.id}/{request.match_info['path']}"
    await _check_session(request, key)
    record = await read_session(context.objects, key)
    record = replace(record, **{name: value for name, value in changes.model_dump().items() if value is not None})
    await store_session(context.objects, key, record, request.app[FOLDER])
    request.app[REPLAYS].forget(channel.id)
    log.info("session changed", channel=channel.id, object=key, hidden=record.hidden)
    fields = [name for name, value in changes.model_dump().items() if value is not None]
    await record_change(request, "recording", "changed", key, fields, channel.id)
    url = addresses(channel, await context.presenter(request), context.clock())
    return answer({"key": key, **session_fields(key, record, url)})


@operation(schemas.Job, body=recording_schemas.NewTrim, status=202, statuses=(409, 503))
async def trim(request: web.Request) -> web.Response:
    """Make a video of a part of an on-demand session.

    The client polls the state of the job, or a webhook reports it. The channel's protection applies to the video.
    """
    channel, wanted = await stored_channel(request), await read(request, recording_schemas.NewTrim)
    start = str(wanted.session)
    if media_keys.session_file(f"{start}/") is None:
        raise BadRequest("expected the number in the address of a session's page", field="session")
    key = media_keys.playlist_key(channel.id, int(start))
    await _check_session(request, key)
    pieces = await StoredPieces(request.app[CONTEXT].objects).session(key)
    if not pieces:
        raise Missing("nothing of this session is stored")
    begin, end = pieces[0].start, pieces[-1].end
    first, last = _moment(wanted.from_, "from", begin, begin), _moment(wanted.to, "to", begin, end)
    if not begin <= first < end:
        raise BadRequest("this time is outside the session", field="from")
    if last <= first:
        raise BadRequest("the end must be after the start", field="to")
    last, longest = min(last, end), request.app[CLIPS].longest_export
    if last - first > longest:
        raise BadRequest(f"at most {longest:g} seconds are possible", field="to")
    job = await request.app[VOD_SERVICE].submit(media_keys.trim_key(key, first, last), title=wanted.name)
    (presented,) = await present_jobs(request, [job])
    return answer(presented, 202, {"Location": f"/jobs/{job.id}"})


async def _check_session(request: web.Request, key: str) -> None:
    """Raises Missing if this is not the key of a stored session's playlist."""
    parsed = media_keys.parse(key)
    try:
        if parsed is not None and parsed.kind is media_keys.MediaKind.ONDEMAND:
            await request.app[CONTEXT].objects.head(key)
            return
    except NoSuchObject:
        pass
    raise Missing("no such on-demand session")


def _moment(value: Any, field: str, start: float, default: float) -> float:
    """Returns a time in seconds since 1970. start: of the session. Raises BadRequest."""
    if value is None or value == "":
        return default
    number = read_number(value)
    return start + number if number is not None and 0 <= number < _SINCE_START else read_moment(value, field)
