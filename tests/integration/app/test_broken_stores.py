"""The gateway keeps serving live streams without optional stores, and names the missing stores."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from gateway.adapters.local.database import APPLICATION
from tests.support.at_night import at_night
from tests.support.gateway import Gateway, http
from tests.support.rtmp import connected

STORES = {
    "MILLRACE_EVENTS__STORE": "events",
    "MILLRACE_VOD__JOBS": "jobs",
    "MILLRACE_VOD__FILMS": "films",
    "MILLRACE_ADMIN__STORE": "console",
}


def _break(folder: Path) -> None:
    """Makes the stores unusable: damaged, not a file, of another program, of a newer version."""
    (folder / "events.db").write_bytes(b"this is no database" * 100)
    (folder / "jobs.db").mkdir()
    for name, change in (("films", "CREATE TABLE theirs (x)"), ("console", "PRAGMA user_version = 99")):
        with contextlib.closing(sqlite3.connect(folder / f"{name}.db")) as database:
            if name == "console":
                database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute(change)
            database.commit()


@pytest.mark.parametrize("workers", [*at_night("1"), "2"])
async def test_live_streams_continue_without_the_other_stores_and_the_status_names_them(
    tmp_path: Path, workers: str
) -> None:
    folder = tmp_path / "stores"
    folder.mkdir()
    _break(folder)
    urls = {variable: f"sqlite:///{folder / name}.db" for variable, name in STORES.items()}
    gateway = Gateway(tmp_path, MILLRACE_SERVE__WORKERS=workers, **urls)
    try:
        gateway.wait_ready()
        before = (folder / "events.db").read_bytes()
        channel = gateway.channel()
        async with connected(gateway.ports["rtmp"]) as peer:
            assert (await peer.publish(channel.obs_key)).code == "NetStream.Publish.Start"
            await peer.headers()
            await peer.film(range(0, 3000, 40), gop=25)
            channel.wait_playable("live.m3u8")
        for port in ("http", "admin"):
            ready = http("GET", f"http://127.0.0.1:{gateway.ports[port]}/ready")
            assert (ready.status, ready.json()["ready"]) == (200, True)
            assert sorted(ready.json()["missing"]) == sorted(f"{name} store" for name in STORES.values())
        for path, name in (("/events", "events"), ("/jobs", "jobs"), ("/films", "films"), ("/users", "console")):
            answer = gateway.api("GET", path)
            assert answer.status == 503, (path, answer.text)
            assert f"{name}.db cannot be used" in answer.json()["error"]
        for name in STORES.values():
            assert f"{name}.db" in gateway.log
        assert (folder / "events.db").read_bytes() == before
        assert "Traceback" not in gateway.log
    finally:
        assert gateway.stop() == 0
