"""Previews of inputs in the API: permissions, the node that makes them, and the errors."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.media.track import AccessUnit
from tests.support.admin import admin
from tests.support.builders import picture
from tests.support.sharing import Directory, member

JPEG = b"\xff\xd8a picture\xff\xd9"


class Jpegs:
    """A JPEG service that returns the same picture for every input."""

    asked = 0

    def start_picture(self, units: Sequence[AccessUnit], longest: int) -> asyncio.Task[bytes]:
        self.asked += 1
        return asyncio.create_task(asyncio.sleep(0, JPEG))


async def test_a_live_push_has_a_preview_and_a_missing_preview_gives_404(tmp_path: Path):
    jpegs = Jpegs()
    async with admin(tmp_path, jpegs=jpegs) as api:
        id = (await api.create())["id"]
        path = f"/videostream/{id}/inputs"
        assert "not live" in (await api.json("GET", f"{path}/main/preview", status=404))["error"]
        assert "no input other" in (await api.json("GET", f"{path}/other/preview", status=404))["error"]
        await api.json("GET", "/videostream/nowhere/inputs/main/preview", status=404)
        publisher = await api.push(id)
        assert "no key frame" in (await api.json("GET", f"{path}/main/preview", status=404))["error"]
        publisher.push(picture(0, key=True), time.monotonic())
        for _ in range(5):
            response = await api.call("GET", f"{path}/main/preview")
            assert (response.status, response.content_type, await response.read()) == (200, "image/jpeg", JPEG)
        assert jpegs.asked == 1
        assert response.headers["Cache-Control"] == "no-store"
        assert (await api.call("GET", f"{path}/main/preview", token=None)).status == 401


async def test_the_node_that_holds_the_stream_makes_the_picture(tmp_path: Path):
    directory, jpegs = Directory(), Jpegs()
    async with (
        member("b2", tmp_path, directory, since=2) as here,
        member("a1", tmp_path, directory, since=1, jpegs=jpegs) as there,
    ):
        id = (await here.api.create())["id"]
        path = f"/videostream/{id}/inputs/main/preview"
        publisher = await there.push(id)
        refused = await here.api.json("GET", path, status=404)
        assert refused == await there.api.json("GET", path, status=404)
        assert "no key frame" in refused["error"]
        publisher.push(picture(0, key=True), time.monotonic())
        for _ in range(3):
            response = await here.api.call("GET", path)
            assert (response.status, response.content_type, await response.read()) == (200, "image/jpeg", JPEG)
        assert jpegs.asked == 1
        await there.server.close()
        response = await here.api.call("GET", path)
        assert response.status == 503 and int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a/b", "x" * 500])
async def test_an_unknown_input_name_gives_404(tmp_path: Path, name: str):
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        assert (await api.call("GET", f"/videostream/{id}/inputs/{name}/preview")).status == 404
