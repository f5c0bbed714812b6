"""Titles of on-demand sessions, hidden sessions, and videos of their parts, by the admin API."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.api.clips import CLIPS
from gateway.api.jobs import VOD_SERVICE
from gateway.api.recordings import RETENTION_DAYS
from gateway.ports import media_keys
from gateway.ports.jobs import VOD, StoredJob
from tests.integration.api.test_recordings_api import MS, add, session
from tests.support.admin import admin

START = MS - 60_000  # of the session, which lasts 8 s


async def test_a_session_has_a_page_a_picture_and_the_time_of_its_deletion(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media), services={RETENTION_DAYS: 2}) as api:
        id = (await api.create())["id"]
        session(media, id, START)
        add(media, media_keys.video_key(id, MS))
        video, found = await api.json("GET", f"/videostream/{id}/recordings")
        assert found["page"].endswith(f":8080/{id}/vod/{START}/")
        assert found["poster"] == f"{found['page']}poster.jpg"
        assert found["until"] == video["until"] == "2026-01-04T03:04:05.678Z"
        assert (video["page"], video["title"], video["hidden"]) == (None, "", False)
        await api.json("PUT", f"/videostream/{id}", {"retentionDays": 0})
        assert {r["until"] for r in await api.json("GET", f"/videostream/{id}/recordings")} == {None}


async def test_a_title_and_a_hidden_session_are_stored_beside_it_and_share_the_bin(tmp_path: Path) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        key = session(media, id, START)
        path, list_path = f"/videostream/{id}/recordings/vod-{START}.m3u8", f"/videostream/{id}/recordings"
        changed = await api.json("PUT", path, {"title": " Opening <night> 夜 "})
        assert (changed["key"], changed["title"], changed["hidden"]) == (key, "Opening <night> 夜", False)
        changed = await api.json("PUT", path, {"hidden": True})
        assert (changed["title"], changed["page"], changed["poster"]) == ("Opening <night> 夜", None, None)
        before = await api.json("GET", list_path)
        assert [(r["title"], r["hidden"], r["page"]) for r in before] == [("Opening <night> 夜", True, None)]
        await api.json("DELETE", path)
        assert [p for p in (media / id).rglob("*") if p.is_file()] == []
        (one,) = await api.json("GET", "/bin")
        await api.json("POST", f"/bin/{one['id']}/restore")
        assert await api.json("GET", list_path) == before
        changed = await api.json("PUT", path, {"hidden": False, "title": ""})
        assert (changed["title"], changed["page"] is None) == ("", False)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"vod-{START + 1}.m3u8", {"hidden": True}, 404),
        ("mp4/2026/1/2/x.mp4", {"hidden": True}, 404),
        (f"vod-{START}.json", {"hidden": True}, 404),
        (f"vod-{START}.m3u8", {"hidden": "perhaps"}, 400),
        (f"vod-{START}.m3u8", {"title": "x" * 201}, 400),
        (f"vod-{START}.m3u8", {"title": "a\x07b"}, 400),
    ],
)
async def test_a_wrong_change_of_a_session_is_refused(
    tmp_path: Path, path: str, body: dict[str, Any], status: int
) -> None:
    media = tmp_path / "media"
    async with admin(tmp_path, objects=LocalObjects(media)) as api:
        id = (await api.create())["id"]
        session(media, id, START)
        assert "error" in await api.json("PUT", f"/videostream/{id}/recordings/{path}", body, status=status)
        assert not (media / id / f"vod-{START}.json").exists()


class Jobs:
    """A service of VOD that only takes jobs."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def submit(self, source: str, title: str = "") -> StoredJob:
        self.taken.append((source, title))
        return StoredJob("1-a", VOD, source, 1.0, 1.0)


def services(jobs: Jobs) -> dict[Any, Any]:
    return {VOD_SERVICE: jobs, CLIPS: SimpleNamespace(longest_export=6.0)}


WHOLE = (START + 3000, START + 8000)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"from": 3}, WHOLE),
        ({"from": "3.0", "to": 100}, WHOLE),
        ({"from": (START + 3000) / 1000}, WHOLE),
        ({"from": START + 3000, "to": START + 7000}, (START + 3000, START + 7000)),
        ({"from": "2026-01-02T03:03:08.678Z", "to": 4.5}, (START + 3000, START + 4500)),
        ({"to": 6}, (START, START + 6000)),
    ],
)
async def test_a_trim_is_a_job_with_the_times_of_the_session(
    tmp_path: Path, times: dict[str, Any], expected: tuple[int, int]
) -> None:
    media, jobs = tmp_path / "media", Jobs()
    async with admin(tmp_path, objects=LocalObjects(media), services=services(jobs)) as api:
        id = (await api.create())["id"]
        session(media, id, START)
        for name in (str(START), START):
            body = {"session": name, "name": "Opening", **times}
            job = await api.json("POST", f"/videostream/{id}/recordings/trim", body, status=202)
            assert job["state"] == "SUBMITTED"
        first, last = expected
        assert set(jobs.taken) == {(f"{id}/trims/{START}-{first}-{last}.mp4", "Opening")}
        parsed = media_keys.parse_trim(jobs.taken[0][0])
        assert parsed == media_keys.Trim(id, f"{id}/vod-{START}.m3u8", first / 1000, last / 1000)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"name": "x"}, 400, "session"),
        ({"session": "latest", "name": "x"}, 400, "session"),
        ({"session": START + 1, "name": "x"}, 404, None),
        ({"session": START}, 400, "name"),
        ({"session": START, "name": " "}, 400, "name"),
        ({"session": START, "name": "x", "from": 8}, 400, "from"),
        ({"session": START, "name": "x", "from": -1}, 400, "from"),
        ({"session": START, "name": "x", "from": "soon"}, 400, "from"),
        ({"session": START, "name": "x", "from": 5, "to": 5}, 400, "to"),
        ({"session": START, "name": "x", "from": 1}, 400, "to"),  # longer than an export
    ],
)
async def test_a_wrong_trim_is_refused(tmp_path: Path, body: dict[str, Any], status: int, field: str | None) -> None:
    media, jobs = tmp_path / "media", Jobs()
    async with admin(tmp_path, objects=LocalObjects(media), services=services(jobs)) as api:
        id = (await api.create())["id"]
        session(media, id, START)
        answer = await api.json("POST", f"/videostream/{id}/recordings/trim", body, status=status)
        assert answer.get("field") == field
        assert jobs.taken == []
