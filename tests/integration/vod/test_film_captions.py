"""Captions of films: those of the file, uploaded ones, their place in the playlists, and their end."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.captions.caption_file import read_caption_file
from gateway.formats.ts.pes import find_first_pts
from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import FilmInUse, InvalidField, NoSuchFilm, NoSuchObject
from gateway.ports.films import MAX_CAPTIONS, FilmCaptions, FilmState
from gateway.ports.films import Film as FilmRecord
from tests.support import films
from tests.support.caption_writer import captioned, captions_of
from tests.support.film_captions import send_captions, uploaded_film
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.studio import Bench, bench

SUBRIP = "1\n00:00:00,500 --> 00:00:01,500\n<i>Grüß</i> Gott <3\n\n2\n00:00:02,000 --> 00:00:02,500\nשלום\n"
SILENT = Film("captions", seconds=6, audio=None)
WEBVTT = b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v A>one &lt; two\n"


def spoken(name: str, coding: str) -> Path:
    """A film with two tracks of text, German and English."""
    text = films.scratch_file("spoken.srt", SUBRIP.encode())
    more = ("-i", str(text), "-i", str(text), "-map", "0", "-map", "1", "-map", "2", "-c:s", coding)
    named = (
        "-metadata:s:s:0",
        "language=ger",
        "-metadata:s:s:1",
        "language=eng",
        "-metadata:s:s:1",
        'title=For "deaf"',
    )
    return films.film(name, "-f", "lavfi", "-i", films.PICTURE, *more, *named, "-t", "3", *films.H264)


async def made(at: Bench, source: Path, key: str = "a.mp4") -> FilmRecord:
    at.put(source, key)
    await at.finished((await at.studio.submit(key)).id)
    return await at.studio.films.get_visible(key.rpartition(".")[0])


def entries(master: Path) -> list[str]:
    return re.findall(r'TYPE=SUBTITLES.*NAME="([^"]*)".*URI="([^"]*)"', master.read_text())


async def test_a_text_track_that_is_not_unicode_is_in_the_character_set_of_its_language(tmp_path: Path) -> None:
    text = films.scratch_file("russian.srt", "1\n00:00:00,500 --> 00:00:01,500\nПривет\n".encode("cp1251"))
    how = ("-i", str(text), "-map", "0", "-map", "1", "-c", "copy", "-metadata:s:s:0", "language=rus")
    async with bench(tmp_path) as at:
        await made(at, films.film("russian.mkv", "-i", str(films.plain()), *how))
        assert [c.text for c in read_caption_file((at.root / "a/acc_ru.vtt").read_bytes())] == ["Привет"]


@pytest.mark.parametrize(("name", "coding"), [("mov.mp4", "mov_text"), ("srt.mkv", "srt"), ("ass.mkv", "ass")])
async def test_text_tracks_of_the_file_become_subtitles(name: str, coding: str, tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        film = await made(at, spoken(name, coding))
        assert film.captions == (FilmCaptions("de", "de"), FilmCaptions("en", "For deaf"))
        folder = at.root / "a"
        assert entries(folder / "a.m3u8") == [("de", "acc_de.m3u8"), ("For deaf", "acc_en.m3u8")]
        text = (folder / "acc_de.vtt").read_bytes()
        first = find_first_pts((folder / "astream_00001.ts").read_bytes())
        assert f"X-TIMESTAMP-MAP=MPEGTS:{first},LOCAL:00:00:00.000".encode() in text
        assert [(c.start // 90, c.text) for c in read_caption_file(text)] == [(500, "Grüß Gott <3"), (2000, "שלום")]


ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,{\\an7\\pos(10,10)\\p1}m 0 0 l 100 0 100 100 0 100
Dialogue: 0,0:00:01.00,0:00:01.50,Default,,0,0,0,,{\\i1}Before{\\i0}\\N{\\p2}m 0 0 b 1 2 3 4 5 6{\\p0}after
"""


async def test_drawings_of_a_text_track_are_left_out(tmp_path: Path) -> None:
    """Typesetters of ASS draw signs and frames beside the words."""
    text = films.scratch_file("drawings.ass", ASS.encode())
    how = ("-i", str(text), "-map", "0", "-map", "1", "-c", "copy")
    async with bench(tmp_path) as at:
        await made(at, films.film("drawings.mkv", "-i", str(films.plain()), *how))
        assert [c.text for c in read_caption_file((at.root / "a/acc_und.vtt").read_bytes())] == ["Before\nafter"]


async def test_closed_captions_stay_in_the_pictures_and_are_listed(tmp_path: Path) -> None:
    source = captioned(SILENT, [(10, "THE FIRST LINE"), (60, "A SECOND ONE"), (110, "NUMBER THREE")])
    async with bench(tmp_path) as at:
        await made(at, source, "a.flv")
        master = (at.root / "a/a.m3u8").read_text()
        assert 'TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="CC1"' in master and 'INSTREAM-ID="CC1"' in master
        kept = captions_of(at.root / "a/astream_00001.ts")
        assert kept == captions_of(source) and "A SECOND ONE" in kept
        # Uploaded ones are listed beside them.
        await at.studio.captions.add("a", "en", "English", WEBVTT)
        both = (at.root / "a/a.m3u8").read_text()
        assert 'CLOSED-CAPTIONS="cc",SUBTITLES="subtitles"' in both and 'INSTREAM-ID="CC1"' in both


async def test_uploaded_captions_stay_when_the_film_is_made_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        await made(at, spoken("mov.mp4", "mov_text"))
        film = await at.studio.captions.add("a", "DE", "Deutsch", WEBVTT)
        assert film.captions == (FilmCaptions("en", "For deaf"), FilmCaptions("DE", "Deutsch", True))
        await at.studio.captions.add("a", "fr", "Français", SUBRIP.encode("utf-16"))
        film = await made(at, spoken("mov.mp4", "mov_text"))
        assert [(c.language, c.label) for c in film.captions if c.uploaded] == [("DE", "Deutsch"), ("fr", "Français")]
        folder = at.root / "a"
        assert [uri for _, uri in entries(folder / "a.m3u8")] == ["acc_en.m3u8", "acc_de.m3u8", "acc_fr.m3u8"]
        assert [c.text for c in read_caption_file((folder / "acc_de.vtt").read_bytes())] == ["one < two"]
        # Removed, they are in no list; the files of the others stay.
        film = await at.studio.captions.remove("a", "de")
        assert [c.language for c in film.captions] == ["en", "fr"]
        assert [uri for _, uri in entries(folder / "a.m3u8")] == ["acc_en.m3u8", "acc_fr.m3u8"]
        assert {path.name for path in folder.glob("*cc_*")} == {
            "acc_en.vtt", "acc_en.m3u8", "acc_fr.vtt", "acc_fr.m3u8",
        }  # fmt: skip
        with pytest.raises(NoSuchObject):
            await at.studio.captions.remove("a", "de")


async def test_captions_are_deleted_and_restored_with_the_film(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        await ready(at, "b/a")
        await at.studio.captions.add("b/a", "en", "English", WEBVTT)
        assert await at.studio.films.delete("b/a")
        left = [path for path in at.root.rglob("*") if path.is_file() and not in_bin(str(path.relative_to(at.root)))]
        assert left == []
        with pytest.raises(NoSuchFilm):
            await at.studio.captions.add("b/a", "en", "English", WEBVTT)
        (entry,) = await at.studio.films.bin.entries()
        await at.studio.films.restore(entry)
        film = await at.studio.films.get_visible("b/a")
        assert film.captions == (FilmCaptions("en", "English", True),)
        assert (at.root / "b/a/acc_en.vtt").exists() and entries(at.root / "b/a/a.m3u8")


async def ready(at: Bench, key: str) -> None:
    """Stores a film of MediaConvert, without a segment that can be read."""
    base = key.rpartition("/")[2]
    master = "#EXTM3U\n#EXT-X-VERSION:3\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\n" + f"{base}stream.m3u8\n"
    for name, data in ((f"{base}.m3u8", master), (f"{base}stream.m3u8", "#EXTM3U\n"), (f"{base}stream_00001.ts", "x")):
        path = at.root / key / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode())
    made = {"hls": f"{key}/{base}.m3u8"}
    await at.studio.films.store.add(FilmRecord(key, base, 1.0, state=FilmState.READY, files=made, duration=12.5))


async def test_another_file_changes_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        await ready(at, "a")
        with pytest.raises(InvalidField):
            await at.studio.captions.add("a", "en", "English", b"\x00\x01")
        await at.studio.films.store.add(FilmRecord("new", "New", 2.0))
        with pytest.raises(FilmInUse):
            await at.studio.captions.add("new", "en", "English", WEBVTT)
        assert (await at.studio.films.get_visible("a")).captions == ()
        assert {path.name for path in (at.root / "a").iterdir()} == {"a.m3u8", "astream.m3u8", "astream_00001.ts"}


async def test_captions_that_are_added_at_the_same_time_are_all_listed(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        await ready(at, "a")
        languages = ["en", "de", "fr", "pt-BR", "zh-Hant-TW"]
        await asyncio.gather(*(at.studio.captions.add("a", tag, "Same", WEBVTT) for tag in languages))
        listed = entries(at.root / "a/a.m3u8")
        assert sorted(uri for _, uri in listed) == sorted(f"acc_{tag.lower()}.m3u8" for tag in languages)
        assert len({name for name, _ in listed}) == len(languages)  # names of one group are different
        assert 'BANDWIDTH=1,SUBTITLES="subtitles"\nastream.m3u8' in (at.root / "a/a.m3u8").read_text()
        playlist = (at.root / "a/acc_en.m3u8").read_text()
        assert "#EXT-X-TARGETDURATION:13\n" in playlist and "#EXTINF:12.50000,\nacc_en.vtt\n" in playlist


async def test_the_languages_of_a_film_are_bounded(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        await ready(at, "a")
        film = await at.studio.films.get_visible("a")
        many = tuple(FilmCaptions(f"en-x-{n}", str(n)) for n in range(MAX_CAPTIONS))
        await at.studio.films.store.change(film.to(captions=many))
        with pytest.raises(InvalidField):
            await at.studio.captions.add("a", "de", "Deutsch", WEBVTT)


# ---- a running gateway ----


gateway = shared_gateway(MILLRACE_VOD__PRESET="ultrafast", MILLRACE_PLAYBACK__AUTH="sign")


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return uploaded_film(gateway, films.plain())


def test_uploaded_captions_play_with_the_protection_of_the_film(gateway: Gateway, key: str) -> None:
    added = send_captions(gateway, f"{key}/de-CH?label=Schwiizert%C3%BC%C3%BCtsch", SUBRIP.encode("latin-1", "replace"))
    assert added.status == 200, added.text
    (captions,) = added.json()["captions"]
    assert (captions["language"], captions["label"]) == ("de-CH", "Schwiizertüütsch")
    text = http("GET", captions["url"])
    assert text.headers["content-type"] == "text/vtt; charset=utf-8" and "Grüß Gott &lt;3" in text.text
    assert http("GET", captions["url"].partition("?")[0]).status == 403
    master = http("GET", gateway.api("GET", f"/films/{key}").json()["hls"]).text
    assert 'LANGUAGE="de-CH"' in master and "cc_de-ch.m3u8?sign=" in master  # the sign is valid for the subtitles
    gone = gateway.api("DELETE", f"/filmcaptions/{key}/de-ch")
    assert gone.status == 200 and gone.json()["captions"] == []
    assert gateway.api("DELETE", f"/filmcaptions/{key}/de-ch").status == 404


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("{key}/en", b"no captions", 400),
        ("{key}/en", b"WEBVTT\n\n00:02.000 --> 00:01.000\nends before it begins\n", 400),
        ("{key}/e", WEBVTT, 400),
        ("{key}/en_US", WEBVTT, 400),
        ("{key}/en?label=%22", WEBVTT, 400),
        ("{key}/en?charset=hex", WEBVTT, 400),
        ("{key}/en", WEBVTT.replace(b"one", "это титры".encode("cp1251")), 400),
        ("{key}/en", b"WEBVTT\n" + bytes(5_000_000), 413),
        ("other/en", WEBVTT, 404),
    ],
)
def test_wrong_captions_are_refused(gateway: Gateway, key: str, path: str, data: bytes, status: int) -> None:
    reply = send_captions(gateway, path.format(key=key), data)
    assert reply.status == status and json.loads(reply.body)["error"]
    film: dict[str, Any] = gateway.api("GET", f"/films/{key}").json()
    assert film["captions"] == []
