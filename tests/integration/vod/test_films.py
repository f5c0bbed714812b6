"""Films exist longer than their jobs: titles, search, deletion, and pages."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.adapters.local.stores import SqliteFilms
from gateway.lib.tasks import Tasks
from gateway.ports.bin_keys import in_bin
from gateway.ports.errors import FilmInUse, NoSuchFilm
from gateway.ports.films import Film, FilmState
from gateway.ports.jobs import VOD, JobState
from gateway.ports.vod_names import names_of
from tests.support import films
from tests.support.gateway import Gateway, Reply, http
from tests.support.shared_gateway import shared_gateway
from tests.support.studio import Bench, bench
from tests.support.time_outs import at_most

PLAYLIST = b"#EXTM3U\n#EXTINF:10.000,\nastream_00001.ts\n#EXTINF:2.5,\nastream_00002.ts\n#EXT-X-ENDLIST\n"


def put(at: Bench, **objects: bytes) -> None:
    for key, data in objects.items():
        path = at.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def film_files(at: Bench, folder: str) -> None:
    """Creates the files of a film without its record."""
    base = folder.rpartition("/")[2]
    files = {f"{base}.m3u8": b"#EXTM3U\n", f"{base}stream.m3u8": PLAYLIST, f"{base}stream_00001.ts": bytes(188)}
    put(at, **{f"{folder}/{name}": data for name, data in (files | {"thumbnail.0000000.jpg": b"\xff\xd8"}).items()})


async def listed(at: Bench, **query: Any) -> list[str]:
    return [film.key for film in await at.studio.films.store.newest(100, **query)]


async def until_listed(at: Bench, *keys: str) -> None:
    async with asyncio.timeout(at_most(20)):
        while set(await listed(at)) != set(keys):
            await asyncio.sleep(0.05)


async def test_a_film_stays_when_its_job_leaves_the_history(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        at.put(films.plain(), "talks/a.mp4")
        job = await at.studio.submit("talks/a.mp4", "A talk", "about films")
        assert (await at.studio.films.get_visible("talks/a")).state is FilmState.PROCESSING
        assert (await at.finished(job.id)).state is JobState.COMPLETE
        await at.store.trim(0)
        assert await at.store.newest(10) == []
        film = await at.studio.films.get_visible("talks/a")
        assert (film.title, film.description, film.state) == ("A talk", "about films", FilmState.READY)
        assert 2.9 < film.duration < 3.2
        assert film.size == sum(path.stat().st_size for path in (at.root / "talks/a").iterdir())
        assert film.files["preview"] == "talks/a/thumbnails.vtt"
        cues = (at.root / "talks/a/thumbnails.vtt").read_text().split("\n\n")
        assert cues[0] == "WEBVTT" and len(cues) == 4  # one each second
        assert cues[1].startswith("00:00:00.000 --> 00:00:01.000\nthumbnails.jpg#xywh=0,0,160,")
        # Made again, it keeps the title.
        await at.finished((await at.studio.submit("talks/a.mp4")).id)
        assert (await at.studio.films.get_visible("talks/a")).title == "A talk"


async def test_a_failed_film_shows_its_reason_and_can_be_deleted(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        put(at, **{"text.mp4": b"This is text.\n"})
        await at.finished((await at.studio.submit("text.mp4")).id)
        film = await at.studio.films.get_visible("text")
        assert (film.state, film.error, film.title) == (FilmState.ERROR, "it is text, not media", "text")
        assert await at.studio.films.delete("text")
        assert await listed(at) == []
        assert (at.root / "text.mp4").exists()  # not a file of the film


async def test_a_film_whose_job_is_submitted_during_a_round_is_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a film is written before its job. Another process may look between the two."""
    async with bench(tmp_path, run=False) as at, Tasks("test") as tasks:
        store, looked = at.studio.films.store, asyncio.Event()
        read = store.in_state

        async def in_state(state: FilmState) -> list[Film]:
            found = await read(state)
            if state is FilmState.PROCESSING:
                looked.set()
            return found

        monkeypatch.setattr(store, "in_state", in_state)
        await at.studio.films.begin(names_of("a.mp4"), "a.mp4")
        checked = tasks.start(at.studio.films._round())
        await looked.wait()
        await at.desk.submit(VOD, "a.mp4")
        await checked
        assert (await at.studio.films.get_visible("a")).state is FilmState.PROCESSING


async def test_a_deletion_removes_only_the_files_of_the_film(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        film_files(at, "shows/one")
        put(
            at, **{"shows/one/notes.txt": b"mine", "shows/one/extra/extra.m3u8": b"another", "shows/one.mp4": b"source"}
        )
        store = at.studio.films.store
        await store.add(Film("shows/one", "One", 1.0, state=FilmState.READY, source="shows/one.mp4"))
        assert await at.studio.films.delete("shows/one")
        found = {path.relative_to(at.root).as_posix() for path in at.root.rglob("*") if path.is_file()}
        left = {key for key in found if not in_bin(key)}
        assert left == {"shows/one/notes.txt", "shows/one/extra/extra.m3u8", "shows/one.mp4"}
        with pytest.raises(NoSuchFilm):
            await at.studio.films.delete("shows/one")


@pytest.mark.parametrize("row", ["nonsense", "[]", "{}", '{"key": "a", "title": 5, "created": "x", "state": "LATER"}'])
async def test_a_film_whose_row_cannot_be_read_is_deleted_with_its_files(tmp_path: Path, row: str) -> None:
    async with bench(tmp_path, run=False) as at:
        film_files(at, "shows/one")
        store = at.studio.films.store
        assert isinstance(store, SqliteFilms)
        await store.write("INSERT INTO films VALUES ('shows/one', 'READY', 1, 5, 7, 'x', ?)", row)
        assert await at.studio.films.delete("shows/one")
        assert not list((at.root / "shows/one").glob("*"))
        with pytest.raises(NoSuchFilm):
            await store.get("shows/one")
        (entry,) = await at.studio.films.bin.entries()
        assert (entry.film["title"], set(entry.film["files"])) == ("one", {"hls", "thumbnail"})


async def test_a_film_cannot_be_deleted_while_a_job_makes_it(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        put(at, **{"a.mp4": b"source"})
        job = await at.studio.submit("a.mp4")
        with pytest.raises(FilmInUse):
            await at.studio.films.delete("a")
        await at.studio.cancel(job.id)
        with pytest.raises(NoSuchFilm):  # a canceled film does not exist
            await at.studio.films.get_visible("a")


async def test_no_job_starts_for_a_film_that_is_being_deleted(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        put(at, **{"a.mp4": b"source"})
        await at.studio.films.store.add(Film("a", "A", 1.0, state=FilmState.DELETING))
        with pytest.raises(FilmInUse):
            await at.studio.submit("a.mp4")
        assert await at.store.newest(10) == []


async def test_an_interrupted_deletion_is_completed(tmp_path: Path) -> None:
    async with bench(tmp_path) as at:
        film_files(at, "shows/one")
        await at.studio.films.store.add(Film("shows/one", "One", 1.0, state=FilmState.DELETING))
        await at.studio.films._round()
        assert not (at.root / "shows/one/one.m3u8").exists()
        assert await at.studio.films.store.in_state(FilmState.DELETING) == []


async def test_films_of_ended_processes_are_completed(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        names = names_of("My holiday.mp4")
        files = {names.master: b"#EXTM3U\n", names.playlist: PLAYLIST}
        put(at, **{names.key(file): data for file, data in files.items()}, **{"next.mp4": b"source"})
        await at.studio.submit("next.mp4")
        for key in ("My holiday", "lost"):
            await at.studio.films.store.add(Film(key, key, 1.0))
        await at.studio.films._round()
        found = {key: await at.studio.films.get_visible(key) for key in ("My holiday", "lost", "next")}
        assert [film.state for film in found.values()] == [FilmState.READY, FilmState.ERROR, FilmState.PROCESSING]
        assert found["My holiday"].files == {"hls": names.key(names.master)}


async def test_an_upload_without_data_is_not_listed(tmp_path: Path) -> None:
    async with bench(tmp_path, run=False) as at:
        key, _ = await at.studio.uploads.offer("My clip.mp4", "http://x", "", "")
        assert await listed(at) == []
        stored = await at.studio.films.store.get(names_of(key).prefix)
        assert (stored.title, stored.state) == ("My clip", FilmState.UPLOADING)
        await at.studio.films.store.change(stored.to(created=1.0))
        await at.studio.films._round()
        assert await at.studio.films.store.in_state(FilmState.UPLOADING) == []


# ---- a running gateway ----


gateway = shared_gateway(MILLRACE_VOD__PRESET="ultrafast", MILLRACE_PLAYBACK__AUTH="sign")


def upload(gateway: Gateway, **texts: str) -> str:
    """Uploads a film, and returns its key when it is ready."""
    offer = gateway.api("POST", "/uploads", {"name": "clip.mp4", **texts}).json()
    sent = urllib.request.Request(
        offer["url"], data=films.plain().read_bytes(), headers=offer["headers"], method=offer["method"]
    )
    with urllib.request.urlopen(sent, timeout=at_most(30)):
        pass
    key = str(offer["key"]).removesuffix(".mp4")
    end = time.monotonic() + at_most(90)
    while (film := gateway.api("GET", f"/films/{key}").json()).get("state") != "READY":
        assert time.monotonic() < end, film
        time.sleep(0.2)
    return key


def page_of(gateway: Gateway, key: str, sign: str = "") -> Reply:
    return http("GET", f"http://127.0.0.1:{gateway.ports['http']}/vod/{quote(key)}/{sign}")


def test_films_are_listed_renamed_found_and_deleted(gateway: Gateway) -> None:
    key = upload(gateway, title="Der <i>erste</i> Film", description="Zürich & See")
    (film,) = gateway.api("GET", f"/films?search={quote('ZÜRICH')}").json()
    assert (film["key"], film["title"], film["state"]) == (key, "Der <i>erste</i> Film", "READY")
    sign = "?" + film["page"].partition("?")[2]
    assert film["page"].partition("?")[0].endswith(f"/vod/{key}/") and sign.startswith("?sign=")
    # The page has the protection of the files.
    assert page_of(gateway, key).status == 403
    page = page_of(gateway, key, sign)
    assert page.status == 200 and "Der &lt;i&gt;erste&lt;/i&gt; Film" in page.text and "<i>" not in page.text
    assert http("GET", film["preview"]).text.startswith("WEBVTT")
    assert http("GET", f"http://127.0.0.1:{gateway.ports['http']}/vod/{key}{sign}").status == 200
    # Renamed.
    changed = gateway.api("PUT", f"/films/{key}", {"title": "Zweiter"}).json()
    assert (changed["title"], changed["description"]) == ("Zweiter", "Zürich & See")
    assert gateway.api("GET", "/films?search=erste").json() == []
    assert gateway.api("GET", f"/filmqr/{key}").headers["content-type"].startswith("image/svg+xml")
    # Deleted.
    assert gateway.api("DELETE", f"/films/{key}").json() == {"key": key, "deleted": True}
    assert gateway.api("GET", "/films").json() == []
    assert page_of(gateway, key, sign).status == 404
    media = gateway.data / "media"
    assert not list(media.glob(f"{key}/*"))
    assert gateway.api("DELETE", f"/films/{key}").status == 404
    # Its files are not served from the bin.
    (binned,) = (path for path in media.rglob("*.m3u8") if path.name == f"{key}.m3u8")
    path = binned.relative_to(media).as_posix()
    host = f"http://127.0.0.1:{gateway.ports['http']}"
    assert http("GET", f"{host}/vod/{path}{sign}").status == 404
    assert http("GET", f"{host}/{path}").status == 403  # no channel has this name, and its sign is missing
    # Restored, it plays again; deleted for good, its upload is deleted too.
    (entry,) = gateway.api("GET", "/bin").json()
    assert (entry["kind"], entry["key"], entry["title"]) == ("film", key, "Zweiter")
    assert gateway.api("POST", f"/bin/{entry['id']}/restore").status == 200
    (restored,) = gateway.api("GET", "/films").json()
    signed = ("page", "hls", "poster", "thumbnail", "preview")  # their signs have the time of the answer
    assert restored == changed | {name: restored[name] for name in signed}
    assert http("GET", restored["hls"]).text.startswith("#EXTM3U")
    assert gateway.api("DELETE", f"/films/{key}").status == 200
    assert [one["key"] for one in gateway.api("DELETE", "/bin").json()] == [key]
    assert not (media / f"{key}.mp4").exists() and not list(media.rglob("*.m3u8"))


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/films?limit=0", None, "limit"),
        ("GET", "/films?limit=501", None, "limit"),
        ("GET", f"/films?search={'x' * 201}", None, "search"),
        ("GET", "/films?search=%00", None, "search"),
        ("GET", "/films?before=nothing", None, "before"),
        ("GET", "/films?before=../etc", None, "before"),
        ("POST", "/uploads", {"name": "a.mp4", "title": 5}, "title"),
        ("POST", "/uploads", {"name": "a.mp4", "description": "x" * 5001}, "description"),
        ("POST", "/jobs", {"source": "a.mp4", "title": "a\nb"}, "title"),
        ("PUT", "/films/x", {"title": ""}, "title"),
    ],
)
def test_wrong_values_are_400_with_their_field(gateway: Gateway, method: str, path: str, body: Any, field: str) -> None:
    refused = gateway.api(method, path, body)
    assert (refused.status, refused.json().get("field")) == (400, field), refused.text


@pytest.mark.parametrize(
    "key", ["nothing", "a/../b", ".hidden", "%2e%2e%2fx", "a%00b", "x" * 300, "%ff", "vod-1%5C..%5Cx"]
)
def test_unknown_and_hostile_keys_are_404(gateway: Gateway, key: str) -> None:
    for method, body in (("GET", None), ("PUT", {"title": "x"}), ("DELETE", None)):
        assert gateway.api(method, f"/films/{key}", body).status in (400, 404)
    assert page_of(gateway, "nothing").status == 403
