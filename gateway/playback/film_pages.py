"""The player pages of films and recordings: a file of the console with the title and the addresses of one video."""

import json
from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote, urljoin

import structlog

from gateway.channels.media_owners import MediaOwners
from gateway.channels.names import is_served_key
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.assets import TYPES, Assets
from gateway.lib.rfc3339 import rfc3339
from gateway.playback.pages import PAGE_HEADERS, open_graph, public_base
from gateway.playback.site import SiteReader
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchFilm, NoSuchObject, StoreUnavailable
from gateway.ports.films import Film, FilmState, FilmStore
from gateway.ports.media_keys import MediaKind
from gateway.ports.stores import ObjectStore
from gateway.ports.vod_names import VodNames, names_in
from gateway.vod.session_records import NO_RECORD, read_session

log = structlog.get_logger(__name__)

_ASSET: Final = "film/film.html"
_MARK: Final = b"<title>Video \xc2\xb7 Millrace</title>"  # the title in the file, which the answer replaces
_MISSING: Final = "There is no such video, or it is not ready yet."
_CACHE: Final = "public, max-age=10"  # a new title appears after this time
_NO_METHOD: Final = text(405, "this method is not served here", headers={"Allow": "GET, HEAD, OPTIONS"})
_MAX_SUMMARY: Final = 300  # characters of the description for programs that show links
_PLAYED: Final = {MediaKind.VIDEO, MediaKind.ONDEMAND, MediaKind.CLIP, MediaKind.MOTION}


class FilmPages:
    """Answers with the page of a film or a recording. The caller has already authorized the viewer.

    For other nodes, the page does not depend on host and query, so that edges can cache it. Its script adds its query
    to all addresses. public_url: the setting `playback.public_url`; "": the host of the request.
    downloads: whether viewers may download sessions.
    """

    def __init__(
        self,
        films: FilmStore,
        objects: ObjectStore,
        owners: MediaOwners,
        site: SiteReader,
        public_url: str = "",
        downloads: bool = False,
    ) -> None:
        self._site = site
        self._public_url = public_url
        self._downloads = downloads
        self._films = films
        self._objects = objects
        self._owners = owners
        self._assets = Assets()

    async def film(self, request: Request, folder: str) -> Response:
        """Answers `/vod/<folder>/`."""
        if request.method not in ("GET", "HEAD"):
            return _NO_METHOD
        if not is_served_key(folder):
            return await self._missing()
        try:
            found = await self._find(folder)
        except StoreUnavailable as error:
            return service_unavailable("videos cannot be read now", error.retry_after)
        if found is None:
            return await self._missing()
        names = {name: quote(key.rpartition("/")[2]) for name, key in found.files.items()}
        poster, preview = names.get("poster"), names.get("preview")
        files = {"hls": names["hls"], "poster": poster, "preview": preview}
        return await self._page(request, f"/vod/{quote(folder)}/", found.title, found.description, found.created, files)

    async def recording(self, request: Request, id: str, path: str) -> Response:
        """Answers `/<id>/vod/<path>/`."""
        if request.method not in ("GET", "HEAD"):
            return _NO_METHOD
        parsed = media_keys.parse(f"{id}/{path}")
        if parsed is None or parsed.kind not in _PLAYED or path.endswith((".jpg", ".jpeg")):
            return await self._missing()
        try:
            key = f"{id}/{path}"
            await self._objects.head(key)
            if path.endswith(".m3u8") and await self._exists(media_keys.multivariant_key(key)):
                key = media_keys.multivariant_key(key)
            session = media_keys.session_object(f"{id}/{path}")
            record = await read_session(self._objects, f"{id}/{path}") if session is not None else NO_RECORD
            owner = await self._owners.find(id)
        except NoSuchObject:
            return await self._missing()
        except StoreUnavailable as error:
            return service_unavailable("recordings cannot be read now", error.retry_after)
        if record.hidden:
            return await self._missing()
        file = f"../{quote(key.rpartition('/')[2])}"
        media, place = {"hls": file} if path.endswith(".m3u8") else {"file": file}, f"{quote(path)}/"
        if session is not None:  # both addresses of its page have the same neighbours
            place = f"{session[0]}/"
            media["poster"] = f"../{place}poster.jpg"
            if self._downloads:
                media["download"] = f"../{place}video.mp4"
        if owner is not None:
            media["channel"] = "../" * (path.count("/") + 2)
        title = record.title or (owner.channel.name if owner is not None else "") or id
        return await self._page(request, f"/{id}/vod/{place}", title, "", parsed.start, media)

    async def _find(self, folder: str) -> Film | None:
        """Returns a film that can be played; None if there is none. A film without a record is found by its files."""
        try:
            film = await self._films.get(folder)
        except NoSuchFilm:
            return await self._find_files(names_in(folder))
        except StoreUnavailable as error:
            log.info("a film's page has no title now", film=folder, reason=str(error))
            return await self._find_files(names_in(folder))
        return film if film.state is FilmState.READY and "hls" in film.files else None

    async def _find_files(self, names: VodNames) -> Film | None:
        """Returns a film with the name of its folder as title; None if there is no playlist."""
        if not await self._exists(names.key(names.master)):
            return None
        files = {"hls": names.key(names.master)}
        for name, file in (("poster", names.poster), ("preview", names.preview)):
            if await self._exists(names.key(file)):
                files[name] = names.key(file)
        return Film(names.prefix, names.base, 0, state=FilmState.READY, files=files)

    async def _exists(self, key: str) -> bool:
        try:
            await self._objects.head(key)
        except NoSuchObject:
            return False
        return True

    async def _page(
        self, request: Request, path: str, name: str, description: str, created: float, files: Mapping[str, str | None]
    ) -> Response:
        """Answers with the page of a video.

        path: public. created: seconds since 1970; 0: unknown. files: addresses relative to the path.
        """
        date = rfc3339(created, "seconds") if created else None
        video = {"title": name, "description": description, "created": date, **files}
        base, poster = public_base(request, self._public_url), files.get("poster")
        query = f"?{request.raw_query}" if request.raw_query and not request.path.startswith("/_node/") else ""
        tags = {
            "og:title": name,
            "og:type": "video.other",
            "og:site_name": (await self._site.get()).title,
            "og:description": description[:_MAX_SUMMARY],
            "og:url": base and f"{base}{path}{query}",
            "og:image": base and poster and urljoin(f"{base}{path}", poster) + query,
        }
        head = f"<title>{escape(name)} · Millrace</title>{open_graph(tags)}\n"
        head += f'  <meta name="video" content="{escape(json.dumps(video))}">'
        return await self._html(200, head, _CACHE)

    async def _missing(self) -> Response:
        return await self._html(404, f'<title>{_MISSING}</title>\n  <meta name="robots" content="noindex">', "no-store")

    async def _html(self, status: int, head: str, cache: str) -> Response:
        asset = await self._assets.load(_ASSET)
        assert asset is not None and _MARK in asset.data, "the page is a file of the package"
        body = asset.data.replace(_MARK, head.encode("utf-8", "replace"), 1)
        return Response(status, body, TYPES["html"], cache=cache, headers=PAGE_HEADERS, compress=True)
