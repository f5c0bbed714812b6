"""Films of the store, and the bounds of their playlists."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.formats.hls.playlist_reader import MAX_BYTES, Playlist, parse_playlist
from gateway.inputs.playlist import stored_film
from gateway.inputs.playlist.stored_film import open_film
from gateway.ports.errors import OutputUnsupported


@pytest.mark.parametrize(("offset", "expected"), [(0.0, b"abc"), (3.9, b"abc"), (4.0, b"bc"), (9.0, b"c")])
async def test_a_playlist_is_read_in_a_thread_and_begins_at_its_offset(
    tmp_path: Path, offset: float, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def parse(text: bytes) -> Playlist:
        threads.append(threading.current_thread())
        return parse_playlist(text)

    monkeypatch.setattr(stored_film, "parse_playlist", parse)
    (tmp_path / "f").mkdir()
    for name in "abc":
        (tmp_path / "f" / f"{name}.ts").write_text(name)
    (tmp_path / "f" / "f.m3u8").write_text("#EXTM3U\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n#EXTINF:4,\nc.ts\n")
    film = await open_film(LocalObjects(tmp_path), "f/f.m3u8", offset)
    assert film is not None
    read = b""
    while data := await film.reader(0, 10):
        read += data
    assert read == expected
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("text", [b"#EXTM3U\n" + b"#" * MAX_BYTES, b"#EXTM3U\n#EXTINF:1,\n../a.ts\n", b"#EXTM3U\n"])
async def test_a_playlist_that_cannot_be_played_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "f.m3u8").write_bytes(text)
    with pytest.raises(OutputUnsupported):
        await open_film(LocalObjects(tmp_path), "f.m3u8")


@pytest.mark.parametrize("item", ["talks/my film/", "talks/my film.mp4"])
async def test_segments_are_those_that_the_playlist_refers_to(item: str, tmp_path: Path) -> None:
    folder = tmp_path / "talks" / "my film"
    folder.mkdir(parents=True)
    (folder / "my filmstream.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nmy%20filmstream_00001.ts\n#EXT-X-ENDLIST\n")
    (folder / "my filmstream_00001.ts").write_bytes(b"media")
    film = await open_film(LocalObjects(tmp_path), item)
    assert film is not None and await film.reader(0, 100) == b"media"
