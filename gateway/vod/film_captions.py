"""Captions of films as files in the object store: uploaded ones, and the list of all in the multivariant playlist."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from gateway.formats.captions.caption_file import read_caption_file
from gateway.formats.captions.webvtt import webvtt
from gateway.formats.hls.multivariant_playlist import SubtitleRendition
from gateway.formats.hls.subtitles import subtitle_playlist, with_subtitles
from gateway.formats.ts.pes import find_first_pts
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData
from gateway.ports.errors import FilmInUse, InvalidField, NoSuchFilm, NoSuchObject
from gateway.ports.films import MAX_CAPTIONS, Film, FilmCaptions, FilmState, merged_captions
from gateway.ports.vod_names import VodNames, names_in, reference
from gateway.vod.films import Films

_ATTEMPTS: Final = 20  # to write a playlist, because others may write it at the same time
_MAX_PLAYLIST: Final = 1 << 20  # bytes of a multivariant playlist
_MAX_STORED: Final = 64 << 20  # bytes of stored captions: 50,000 cues of 500 characters
_SEGMENT_START: Final = 1 << 20  # bytes of the first segment in which its times are looked for


class FilmCaptionFiles:
    """Adds and removes captions of films. Methods raise NoSuchFilm, FilmInUse, StoreUnavailable, OSError.

    folder: for files until they are stored.
    """

    def __init__(self, films: Films, folder: Path) -> None:
        self._films = films
        self._objects = films.sources.objects
        self._folder = folder

    async def add(self, key: str, language: str, label: str, data: bytes, charset: str = "") -> Film:
        """Adds captions, in place of those in this language. data: WebVTT or SubRip. charset: see `decode_text`.

        Raises InvalidField for other files, and if the film has too many captions.
        """
        film, names = await self._find(key)
        new = FilmCaptions(language, label, uploaded=True)
        if len(merged_captions(film.captions, [new])) > MAX_CAPTIONS:
            raise InvalidField("language", f"expected captions in at most {MAX_CAPTIONS} languages")
        try:
            cues = await asyncio.to_thread(read_caption_file, data, language=language, charset=charset)
        except InvalidData as error:
            raise InvalidField("body", str(error)) from None
        if not cues:
            raise InvalidField("body", "the file has no captions that can be shown")
        await self._write(film, names, language, cues)
        try:
            await self._films.change_captions(key, lambda captions: merged_captions(captions, [new]))
        except NoSuchFilm:  # deleted meanwhile
            await self._delete(names, language)
            raise
        return await self._list(key)

    async def remove(self, key: str, language: str) -> Film:
        """Removes captions. Raises NoSuchObject if the film has none in this language."""
        film, names = await self._find(key)
        if language.lower() not in (each.language.lower() for each in film.captions):
            raise NoSuchObject(f"captions {language}")
        await self._forget(key, language)
        film = await self._list(key)  # first, so that no player asks for a missing file
        await self._delete(names, language)
        return film

    async def renew(self, key: str) -> None:
        """Fits uploaded captions to a film that was made again, and lists them in its new playlist."""
        film, names = await self._find(key)
        for each in film.captions:
            if not each.uploaded:
                continue
            try:
                stored = await self._read(names.key(names.captions(each.language)), _MAX_STORED)
                cues = await asyncio.to_thread(read_caption_file, stored, _MAX_STORED)
            except (NoSuchObject, InvalidData):
                await self._forget(key, each.language)
            else:
                await self._write(film, names, each.language, cues)
        await self._list(key)

    async def _find(self, key: str) -> tuple[Film, VodNames]:
        film = await self._films.get_visible(key)
        if film.state is not FilmState.READY:
            raise FilmInUse(f"film {key} is not ready")
        return film, names_in(film.key)

    async def _forget(self, key: str, language: str) -> None:
        gone = language.lower()
        await self._films.change_captions(
            key, lambda captions: tuple(each for each in captions if each.language.lower() != gone)
        )

    async def _write(self, film: Film, names: VodNames, language: str, cues: list[CaptionCue]) -> None:
        """Stores WebVTT and its playlist. Time 0 of the captions is the first time of the film's segments."""
        try:
            first = find_first_pts(await self._read(names.key(names.segment(1)), _SEGMENT_START))
        except NoSuchObject:
            first = None
        text = await asyncio.to_thread(webvtt, cues, 0, None if first is None else (first, 0))
        await self._put(names.key(names.captions(language)), text)
        playlist = subtitle_playlist(reference(names.captions(language)), film.duration)
        await self._put(names.key(names.captions_playlist(language)), playlist)

    async def _list(self, key: str) -> Film:
        """Writes the film's captions into its multivariant playlist, until both agree, and returns the film.

        Others may change the film and write the playlist between any two steps. The last one to write reads again.
        """
        for _ in range(_ATTEMPTS):
            film, names = await self._find(key)
            stored = (await self._read(names.key(names.master), _MAX_PLAYLIST)).decode("utf-8", "replace")
            listed = with_subtitles(
                stored,
                [
                    SubtitleRendition(c.label, reference(names.captions_playlist(c.language)), c.language)
                    for c in film.captions
                ],
            )
            if listed == stored:
                return film
            await self._put(names.key(names.master), listed.encode())
        raise FilmInUse(f"film {key} changes all the time")

    async def _delete(self, names: VodNames, language: str) -> None:
        for file in (names.captions_playlist(language), names.captions(language)):
            await self._objects.delete(names.key(file))

    async def _read(self, key: str, most: int) -> bytes:
        return b"".join([chunk async for chunk in self._objects.read(key, 0, most)])

    async def _put(self, key: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-captions-", dir=self._folder) as folder:
            file = Path(folder) / "file"
            await asyncio.to_thread(file.write_bytes, data)
            await self._objects.put(key, file)
