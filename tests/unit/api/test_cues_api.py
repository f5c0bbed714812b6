"""Cues and metadata of the API: bodies, statuses, limits."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.diagnosis import cue_log
from gateway.formats.scte35 import SpliceInfo, SpliceInsert, SpliceNull, write_section
from gateway.lib.rfc3339 import rfc3339
from gateway.media.timed_data import AdCue, Metadata
from gateway.media.track import TimedData
from tests.support.admin import Admin, admin
from tests.support.builders import Recorder, picture

SECTION = write_section(SpliceInfo(SpliceInsert(77, True, 900_000)))


def text(section: bytes) -> str:
    return base64.b64encode(section).decode()


async def live(api: Admin) -> tuple[str, Recorder]:
    """Returns a live channel and a sink of its stream."""
    id = (await api.create())["id"]
    publisher = await api.push(id)
    publisher.push(picture(2000, key=True), publisher.on_air.since)
    sink = Recorder()
    publisher.stream.attach(sink)
    return id, sink


def timed(sink: Recorder) -> list[TimedData]:
    return [item for item in cast(Any, sink.items) if isinstance(item, TimedData)]


async def test_cues_are_put_into_the_stream_and_listed(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, sink = await live(api)
        path = f"/videostream/{id}/cues"
        made = await api.json("POST", path, {"type": "out", "id": "b1", "seconds": 30}, status=202)
        assert made == {"id": "b1"}
        assert (await api.json("POST", path, {"type": "in"}, status=202)) == {"id": "b1"}
        assert (await api.json("POST", path, {"scte35": text(SECTION)}, status=202)) == {"id": "77"}
        listed = await api.json("GET", path)
        assert [(cue["id"], cue["type"], cue["seconds"], cue["origin"]) for cue in listed] == [
            ("77", "out", None, "api"),
            ("b1", "in", None, "api"),
            ("b1", "out", 30.0, "api"),
        ]
        found = [cast(AdCue, item.value) for item in timed(sink)]
        assert [cue.at for cue in found] == [2000, 2000, 2000]
        assert found[2].section == SECTION


async def test_a_cue_in_the_future_has_its_time(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, sink = await live(api)
        at = round(time.time()) + 1800
        for moment in (at, rfc3339(at)):
            await api.json("POST", f"/videostream/{id}/cues", {"type": "out", "at": moment}, status=202)
        listed = await api.json("GET", f"/videostream/{id}/cues")
        assert [cue["at"] for cue in listed] == [rfc3339(at)] * 2
        assert timed(sink) == [], "it is sent some seconds before its time"


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("type", {}),
        ("type", {"type": "other"}),
        ("type", {"type": ["out"]}),
        ("id", {"type": "out", "id": ""}),
        ("id", {"type": "out", "id": "x" * 65}),
        ("id", {"type": "out", "id": "a\nb"}),
        ("id", {"type": "out", "id": 5}),
        ("seconds", {"type": "out", "seconds": 0}),
        ("seconds", {"type": "out", "seconds": 1e9}),
        ("seconds", {"type": "out", "seconds": "soon"}),
        ("at", {"type": "out", "at": "yesterday"}),
        ("at", {"type": "out", "at": 1_000_000_000}),
        ("at", {"type": "out", "at": 30_000_000_000}),
        ("scte35", {"scte35": "nonsense"}),
        ("scte35", {"scte35": text(SECTION[:-1] + b"x")}),
        ("scte35", {"scte35": text(write_section(SpliceInfo(SpliceNull())))}),
        ("scte35", {"scte35": "A" * 6000}),
        ("scte35", {"scte35": 5}),
    ],
)
async def test_a_malformed_cue_is_400_with_its_field(field: str, body: dict[str, Any], tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, sink = await live(api)
        answer = await api.json("POST", f"/videostream/{id}/cues", body, status=400)
        assert answer["field"] == field
        assert timed(sink) == []


async def test_channels_that_are_unknown_or_not_live_are_404_and_409(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id = (await api.create())["id"]
        for route, body in (("cues", {"type": "out"}), ("metadata", {"metadata": "x"})):
            await api.json("POST", f"/videostream/{id}/{route}", body, status=409)
            await api.json("POST", f"/videostream/unknown/{route}", body, status=404)
        assert await api.json("GET", f"/videostream/{id}/cues") == []
        await api.json("GET", "/videostream/unknown/cues", status=404)


async def test_a_flood_is_429(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(cue_log, "time", SimpleNamespace(time=time.time, monotonic=lambda: now))
    async with admin(tmp_path) as api:
        id, _ = await live(api)
        statuses = [(await api.call("POST", f"/videostream/{id}/cues", {"type": "out"})).status for _ in range(15)]
        assert statuses == [202] * 10 + [429] * 5
        path = f"/videostream/{id}/metadata"
        answers = [await api.call("POST", path, {"metadata": "x"}) for _ in range(9)]
        assert [answer.status for answer in answers] == [204] * 5 + [429] * 4
        assert answers[-1].headers["Retry-After"] == "1"


async def test_metadata_are_put_into_the_stream(tmp_path: Path) -> None:
    async with admin(tmp_path) as api:
        id, sink = await live(api)
        path = f"/videostream/{id}/metadata"
        longest = "ä" * 512
        for body in ({"metadata": longest}, {"channelArn": "arn:aws:ivs:eu-west-1:1:channel/x", "metadata": "{}"}):
            answer = await api.call("POST", path, body)
            assert (answer.status, await answer.read()) == (204, b"")
        assert timed(sink) == [TimedData(2000, Metadata(longest)), TimedData(2000, Metadata("{}"))]
        for text in (longest + "x", "", None, 5):
            answer = await api.json("POST", path, {"metadata": text}, status=400)
            assert answer["field"] == "metadata"
