"""What is below the page of a session: for viewers only while it is not hidden, and with no file left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.media_owners import MediaOwner
from gateway.http.response import Response
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.playback.session_files import SessionFiles
from gateway.ports.errors import AtCapacity, CannotCut, GatewayError, NothingRecorded
from gateway.ports.media_keys import playlist_key, session_record_key
from tests.support.builders import channel

START = 1_764_300_000_000


class Clips:
    """Joins nothing. made: the time ranges; open: movies whose file exists. error: what each export raises."""

    longest_export = 100.0

    def __init__(self) -> None:
        self.made: list[tuple[float, float, str]] = []
        self.open = 0
        self.error: GatewayError | None = None

    @asynccontextmanager
    async def export(
        self, channel: Any, start: float, end: float, stream: Any, is_wanted: Any, kind: str
    ) -> AsyncIterator[Any]:
        if self.error is not None:
            raise self.error
        self.made.append((start, end, kind))
        self.open += 1
        try:
            yield SimpleNamespace(size=5)
        finally:
            self.open -= 1

    async def read(self, movie: Any) -> AsyncIterator[bytes]:
        yield b"movie"


class Rig:
    def __init__(self, folder: Path, seconds: float = 8.0) -> None:
        self.folder, self.clips = folder, Clips()
        entry = RecordedSegment(START, seconds, 1, False, START / 1000)
        self.put(playlist_key("c1", START), playlist([entry]).encode())
        self.files = SessionFiles(
            LocalObjects(folder),
            cast(Any, SimpleNamespace(find=self._owner)),
            cast(Any, None),
            cast(Any, SimpleNamespace(picture=self._picture)),
            cast(Any, self.clips),
        )

    def put(self, key: str, data: bytes) -> None:
        (self.folder / key).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / key).write_bytes(data)

    async def _owner(self, id: str) -> MediaOwner:
        return MediaOwner(channel(id, slug="stage"))

    async def _picture(self, key: tuple[str, int], read: Any) -> Response:
        return Response(200, b"jpeg", "image/jpeg")

    async def get(
        self, file: str, method: str = "GET", start: int = START, peer: str = "192.0.2.1", exempt: bool = False
    ) -> Response:
        return await self.files(cast(Any, SimpleNamespace(method=method, peer=peer, exempt=exempt)), "c1", start, file)


async def test_a_download_has_the_whole_session_and_a_name_and_its_file_goes_at_the_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    answer = await rig.get("video.mp4")
    assert (answer.status, answer.length) == (200, 5)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="stage-2025-11-28_03-20-00.mp4"'
    assert rig.clips.made == [(START / 1000, START / 1000 + 8, "download")]
    body = cast(Any, answer.body)
    assert [data async for data in body] == [b"movie"] and rig.clips.open == 1
    await body.aclose()
    assert rig.clips.open == 0


async def test_a_client_that_leaves_before_the_first_byte_leaves_no_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    answer = await rig.get("video.mp4")
    await cast(Any, answer.body).aclose()
    assert rig.clips.open == 0


async def test_an_address_that_reads_slowly_leaves_downloads_to_the_others(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    slow = [await rig.get("video.mp4", peer=f"2001:db8::{host}") for host in range(4)]
    assert [answer.status for answer in slow] == [200, 200, 429, 429] and rig.clips.open == 2
    assert slow[2].headers["Retry-After"] == "10"
    assert (await rig.get("video.mp4", "HEAD", peer="2001:db8::1")).status == 200
    assert (await rig.get("video.mp4", peer="2001:db8:0:1::1")).status == 200
    assert [(await rig.get("video.mp4", exempt=True)).status for _ in range(3)] == [200] * 3
    await cast(Any, slow[0].body).aclose()
    rig.clips.error = CannotCut("the codecs change")
    assert [(await rig.get("video.mp4", peer="2001:db8::1")).status for _ in range(2)] == [409] * 2
    rig.clips.error = None
    assert (await rig.get("video.mp4", peer="2001:db8::1")).status == 200


async def test_a_head_request_and_a_session_that_is_too_long_make_no_film(tmp_path: Path) -> None:
    assert (await Rig(tmp_path).get("video.mp4", "HEAD")).status == 200
    rig = Rig(tmp_path, seconds=101.0)
    answer = await rig.get("video.mp4")
    assert answer.status == 413 and b"at most 100 s" in cast(bytes, answer.body)
    assert rig.clips.made == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(AtCapacity("too many downloads"), 503), (CannotCut("the codecs change"), 409), (NothingRecorded("none"), 404)],
)
async def test_a_film_that_cannot_be_made_is_answered_with_the_reason(
    tmp_path: Path, error: GatewayError, status: int
) -> None:
    rig = Rig(tmp_path)
    rig.clips.error = error
    assert (await rig.get("video.mp4")).status == status


@pytest.mark.parametrize("file", ["poster.jpg", "video.mp4"])
async def test_a_hidden_and_an_unknown_session_have_no_files(tmp_path: Path, file: str) -> None:
    rig = Rig(tmp_path)
    assert (await rig.get(file)).status == 200
    assert (await rig.get(file, start=START + 1)).status == 404
    rig.put(session_record_key(playlist_key("c1", START)), b'{"title": "x", "hidden": true}')
    assert (await rig.get(file)).status == 404
    rig.put(session_record_key(playlist_key("c1", START)), b"[]")  # damaged: it may have been hidden
    assert (await rig.get(file)).status == 404
