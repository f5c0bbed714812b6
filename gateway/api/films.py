"""Films: list, search, show, rename and delete videos on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web
from aiohttp.client_exceptions import ClientError

from gateway.api import qr_code, schemas
from gateway.api.answers import BadRequest, Conflict, answer
from gateway.api.body import begin_body, decoding_error, read
from gateway.api.context import CLIENT
from gateway.api.film_texts import film_texts, is_text
from gateway.api.jobs import VOD_SERVICE, film_addresses, present_jobs
from gateway.api.moments import page_limit
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.api.settings_events import record_change
from gateway.channels.captions import is_label
from gateway.channels.names import is_object_key
from gateway.formats.captions.caption_file import MAX_BYTES
from gateway.formats.captions.charsets import is_charset
from gateway.lib.rfc3339 import rfc3339
from gateway.media.labels import is_language
from gateway.ports.errors import NoSuchFilm, TooLarge
from gateway.ports.films import Film
from gateway.ports.vod_names import MAX_LANGUAGE, names_in
from gateway.vod.uploads import UploadExists

log = structlog.get_logger(__name__)

_MAX_LIMIT: Final = 500
_DEFAULT_LIMIT: Final = 50
_MAX_SEARCH: Final = 200  # characters
_FILES: Final = ("hls", "poster", "thumbnail", "preview")
PAGE_QUERY: Final = (
    ("search", "a part of the title, the description or the key, in upper or lower case"),
    ("limit", f"the number of films, 1 to {_MAX_LIMIT} (default {_DEFAULT_LIMIT})"),
    ("before", "the key of the last film of the previous page; the answer begins after it"),
)
_CHUNK_BYTES: Final = 1 << 18
_READ_TIMEOUT: Final = 60  # seconds in which the next chunk must arrive


@operation(list[schemas.Film], statuses=(503,), query=PAGE_QUERY)
async def index(request: web.Request) -> web.Response:
    """List and search the videos on demand, the newest first."""
    limit = page_limit(request.query.get("limit", str(_DEFAULT_LIMIT)), _MAX_LIMIT)
    before, search = request.query.get("before", ""), request.query.get("search", "").strip()
    if len(search) > _MAX_SEARCH or not is_text(search):
        raise BadRequest(f"expected a text of at most {_MAX_SEARCH} characters", field="search")
    store, after = request.app[VOD_SERVICE].films.store, None
    if before:
        try:
            if not is_object_key(before):
                raise NoSuchFilm(before[:100])
            after = (await store.get(before)).order
        except NoSuchFilm:
            raise BadRequest("expected the key of a film", field="before") from None
    return answer(await _present(request, await store.newest(limit, after, search)))


@operation(schemas.Film, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """Show a video on demand."""
    return await _answer(request, await request.app[VOD_SERVICE].films.get_visible(_key(request)))


@operation(schemas.Film, body=schemas.FilmChanges, statuses=(409, 503))
async def edit(request: web.Request) -> web.Response:
    """Change title and description.

    A missing field keeps its value.
    """
    key = _key(request)
    changes = film_texts(await read(request, schemas.FilmChanges))
    films = request.app[VOD_SERVICE].films
    film = await films.edit(key, changes) if changes else await films.get_visible(key)
    return await _answer(request, film)


@operation(schemas.DeletedFilm, statuses=(202, 409, 503))
async def delete(request: web.Request) -> web.Response:
    """Delete a video on demand with its files.

    It disappears from all lists at once, and can be restored from the bin for some hours (`recording.bin_hours`).
    202: the deletion continues in the background.
    """
    key = _key(request)
    done = await request.app[VOD_SERVICE].films.delete(key)
    await record_change(request, "film", "deleted", key)
    return answer({"key": key, "deleted": done}, 200 if done else 202)


@operation("image/svg+xml", statuses=(503,))
async def qr(request: web.Request) -> web.Response:
    """The address of a video's player page as a QR code."""
    film = await request.app[VOD_SERVICE].films.get_visible(_key(request))
    (presented,) = await _present(request, [film])
    return await qr_code.respond(presented["page"], "QR code of the player page")


@operation(
    schemas.Film,
    body="text/vtt",
    statuses=(409, 413, 503, 507),
    query=(("label", "what players show"), ("charset", "of a file that is not Unicode, such as windows-1251")),
)
async def set_captions(request: web.Request) -> web.Response:
    """Add captions to a video on demand: a WebVTT or SubRip file.

    They replace captions in the same language. Players that keep playlists show them after ten minutes.
    """
    key, language = _key(request), _language(request)
    label = request.query.get("label", "").strip() or language
    if not is_label(label):
        raise BadRequest("expected at most 64 characters without quotation marks", field="label")
    charset = request.query.get("charset", "")
    if charset and not is_charset(charset):
        raise BadRequest("expected a character set such as windows-1251, gb18030, shift_jis or euc-kr", field="charset")
    data = b"".join([piece async for piece in read_chunks(request, MAX_BYTES, "the file with captions")])
    film = await request.app[VOD_SERVICE].captions.add(key, language, label, data, charset)
    log.info("captions added", film=key, language=language)
    return await _answer(request, film)


@operation(schemas.Film, statuses=(409, 503, 507))
async def remove_captions(request: web.Request) -> web.Response:
    """Remove captions of a video on demand.

    Captions of the video itself come back when it is made again.
    """
    key, language = _key(request), _language(request)
    film = await request.app[VOD_SERVICE].captions.remove(key, language)
    log.info("captions removed", film=key, language=language)
    return await _answer(request, film)


def _language(request: web.Request) -> str:
    language = request.match_info["language"]
    if not is_language(language) or len(language) > MAX_LANGUAGE:
        raise BadRequest("expected a language such as en or pt-BR", field="language")
    return language


async def _answer(request: web.Request, film: Film) -> web.Response:
    return answer((await _present(request, [film]))[0])


async def _present(request: web.Request, films: Sequence[Film]) -> list[dict[str, Any]]:
    """Returns films as the API shows them. Addresses get a play signature if the film or its channel needs one."""
    url = await film_addresses(request, {film.key for film in films})
    return [_film_json(film, url) for film in films]


def _film_json(film: Film, url: Callable[[str], str]) -> dict[str, Any]:
    urls = {name: url(film.files[name]) if name in film.files else None for name in _FILES}
    values = {name: getattr(film, name) or None for name in ("duration", "size", "error")}
    created, page = rfc3339(film.created), url(f"{film.key}/")
    names = names_in(film.key)
    captions = [
        {"language": each.language, "label": each.label, "url": url(names.key(names.captions(each.language)))}
        for each in film.captions
    ]
    return to_answer(schemas.Film, film, created=created, page=page, captions=captions, **values, **urls)


def _key(request: web.Request) -> str:
    key = request.match_info["key"]
    if not is_object_key(key):
        raise NoSuchFilm(quote(key[:100]))
    return key


@operation(schemas.Upload, body=schemas.NewUpload, statuses=(503,))
async def create_upload(request: web.Request) -> web.Response:
    """Get an address for the upload of a video, or of a picture for a slate.

    An uploaded video becomes a job automatically, a picture does not.
    The job starts at once if this node receives the upload, otherwise after the bucket's event.
    """
    wanted = await read(request, schemas.NewUpload)
    base = request[CLIENT].origin
    key, upload = await request.app[VOD_SERVICE].uploads.offer(wanted.name, base, **film_texts(wanted))
    return answer({"key": key, "url": upload.url, "method": upload.method, "headers": upload.headers})


@operation(
    schemas.Uploaded,
    status=201,
    statuses=(400, 403, 404, 409, 413, 507, 503),
    query=(("expires", "from the address"), ("sign", "from the address")),
)
async def receive_upload(request: web.Request) -> web.Response:
    """Upload a file to this address; a video becomes a job.

    The signature in the address is the authorization.
    """
    uploads = request.app[VOD_SERVICE].uploads
    key = request.match_info["key"]
    query = request.query
    uploads.admit(key, query.get("expires", ""), query.get("sign", ""), request.content_length)
    try:
        job = await uploads.receive(key, read_chunks(request))
    except UploadExists:
        raise Conflict("this upload address was already used") from None
    if job is None:
        return answer({"key": key, "job": None}, 201)
    (presented,) = await present_jobs(request, [job])
    return answer({"key": key, "job": presented}, 201, {"Location": f"/jobs/{job.id}"})


async def read_chunks(request: web.Request, most: int = 0, label: str = "the body") -> AsyncIterator[bytes]:
    """Yields the body in chunks. Raises BadRequest if the client disconnects early, and TooLarge.

    most, label: see `begin_body`.
    """
    await begin_body(request, most, label)
    size, received = request.content_length, 0
    while True:
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                chunk = await request.content.read(_CHUNK_BYTES)
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="the upload has stalled") from None
        except (ClientError, ConnectionError) as error:
            raise BadRequest("the upload was interrupted") from error
        except web.RequestPayloadError:
            raise decoding_error(request) from None
        if not chunk:
            break
        received += len(chunk)
        if 0 < most < received:
            raise TooLarge(received, most, label)
        yield chunk
    if size is not None and received != size:
        raise BadRequest(f"received {received} of {size} bytes")
