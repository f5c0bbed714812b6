"""The HTTP answers of a ladder: waiting, refusals and cached answers."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from gateway.channels.stream_key import SignatureUse
from gateway.live.sink import EndReason
from gateway.playback import ladder as answers
from tests.support.builders import FAR
from tests.support.clock import Clock
from tests.support.hls_rules import parse
from tests.support.http import request
from tests.support.ladder import RUNGS, LadderStream, ladder
from tests.support.playback import SECRETS
from tests.support.segmented import Timetable
from tests.support.time_outs import at_most
from tests.support.waiting import until

TABLE = Timetable(seconds=60)
ALL = dict.fromkeys((r.name for r in RUNGS), TABLE)
LISTS = ["index.m3u8", "master.m3u8", "manifest.mpd", "360p/index.m3u8", "360p/video/index.m3u8"]


async def asked(lab: LadderStream, path: str) -> asyncio.Task[str]:
    """Starts a request, and returns it once it is answered or has to wait."""
    task = asyncio.create_task(lab.text(path))
    await asyncio.wait([task], timeout=0.05)
    return task


def _representations(text: str) -> list[list[str]]:
    """Returns the ids of the Representations of each Period."""
    return [re.findall('<Representation id="([^"]+)"', period) for period in text.split("<Period ")[1:]]


def uris(text: str) -> list[str]:
    return re.findall(r"^([^#\n]+)$", text, re.MULTILINE)


@pytest.mark.parametrize("path", LISTS)
async def test_a_ladder_that_is_not_live_gives_404_with_the_usual_text(path: str) -> None:
    async with ladder(TABLE, ALL) as lab:
        reply = await lab.get(path)
        assert (reply.status, reply.text) == (404, "c1 is not streaming live now\n")


@pytest.mark.parametrize("path", ["index.m3u8", "master.m3u8", "manifest.mpd"])
async def test_early_viewers_wait_until_every_rendition_is_available(path: str) -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin("", "360p", "480p").play(5)
        task = await asked(lab, path)
        assert not task.done()
        lab.publish("720p")
        lab.play(12)
        text = await asyncio.wait_for(task, at_most(5))
        assert all(r.name in text for r in RUNGS)


@pytest.mark.parametrize("path", ["index.m3u8", "master.m3u8"])
async def test_a_missing_rendition_is_waited_for_only_a_limited_time(path: str) -> None:
    clock = Clock(0.0)
    async with ladder(TABLE, ALL, clock=clock) as lab:
        lab.begin("", "360p", "480p").play(9)
        task = await asked(lab, path)
        await until(lambda: len(lab.ladders._waiting_since), "the request waits")
        assert not task.done()
        clock.now = 20
        lab.play(10)
        text = await asyncio.wait_for(task, at_most(5))
        assert "480p" in text and "720p" not in text
        assert "720p" not in await lab.text(path)  # at once from now on
        lab.publish("720p")
        assert "720p" in await lab.play(16).text(path)


async def test_viewers_do_not_wait_for_renditions_that_were_lost() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(14)
        before = _representations(await lab.text("manifest.mpd"))
        for r in RUNGS:
            lab.hub.end(f"c1@{r.name}", EndReason.NO_MEDIA)
        lab.play(16)
        assert "360p" not in await lab.text("master.m3u8")
        # What a listed Period has stays.
        assert _representations(await lab.text("manifest.mpd")) == [*before, ["video", "audio"]]
        assert before == [["video", *(r.name for r in RUNGS), "audio"]]


async def test_renditions_stay_listed_while_their_streams_linger() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        lab.leave("480p")
        lab.play(20)
        assert "480p/index.m3u8" in await lab.text("index.m3u8")
        assert "480p/video/index.m3u8" in await lab.text("master.m3u8")
        assert (await lab.get("480p/index.m3u8")).status == 200


async def test_a_source_that_cannot_be_transcoded_plays_alone_with_a_reason() -> None:
    async with ladder(TABLE, {}, fails="nothing here decodes flv1") as lab:
        lab.begin().play(9)
        await until(lambda: answers.transcoder_failure(lab.stream()) is not None)
        reply = await lab.get("index.m3u8")
        assert (reply.status, reply.text) == (404, "codec cannot carry c1: nothing here decodes flv1\n")
        assert uris(await lab.text("master.m3u8")) == ["video/index.m3u8"]
        assert (await lab.get("manifest.mpd")).status == 200
        assert (await lab.get("360p/index.m3u8")).status == 404


async def test_without_renditions_in_time_the_answer_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FIRST_WAIT", 0.1)
    async with ladder(TABLE, ALL) as lab:
        lab.begin("").play(9)
        for path in ("index.m3u8", "360p/index.m3u8"):
            reply = await lab.get(path)
            assert (reply.status, reply.headers["retry-after"], reply.headers["cache-control"]) == (
                503,
                "1",
                "no-store",
            )


async def test_a_request_waits_for_the_playlist_of_a_rendition() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin("").play(1)
        task = await asked(lab, "360p/index.m3u8")
        assert not task.done()
        lab.publish("360p")
        lab.play(7)
        assert parse(await asyncio.wait_for(task, at_most(5))).segments


async def test_a_channel_without_a_ladder_gives_404_for_renditions() -> None:
    async with ladder(TABLE, {}, isCodec=False) as lab:
        lab.begin("").play(9)
        for path in ("index.m3u8", "360p/index.m3u8", "360p/video/index.m3u8"):
            reply = await lab.get(path)
            assert (reply.status, reply.text) == (404, "codec is not enabled for c1\n")
        assert uris(await lab.text("master.m3u8")) == ["video/index.m3u8"]


async def test_a_rendition_can_be_played_by_its_own_stream_name() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(14)
        for path in ("live.m3u8", "master.m3u8", "manifest.mpd", "video/index.m3u8", "audio/index.m3u8"):
            reply = await lab.listener.get(f"/c1@360p/{path}")
            assert reply.status == 200 and "480p" not in reply.text
        assert (await lab.listener.get("/c1@360p/index.m3u8")).status == 404
        live = parse((await lab.listener.get("/c1@360p/live.m3u8")).text)
        one, same = [await lab.listener.get(f"/c1{p}/{live.segments[-1].uri}") for p in ("@360p", "/360p")]
        assert one.status == 200 and one.body == same.body


@pytest.mark.parametrize(
    "path", ["1080p/index.m3u8", "360p/nothing.m3u8", "360p/1.ts", "360p/video/1-1.m4s", "360p/", "%00/x", "A b/c"]
)
async def test_unknown_paths_of_renditions_give_404(path: str) -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        assert (await lab.get(path)).status in (400, 404)


async def test_a_lost_rendition_gives_404_so_that_players_change() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        lab.leave("360p")
        assert (await lab.play(11).get("360p/video/index.m3u8")).status == 200  # a segment may be late
        reply = await lab.play(15).get("360p/video/index.m3u8")
        assert (reply.status, reply.text) == (404, "360p of c1 is not available now\n")
        assert (await lab.get("480p/video/index.m3u8")).status == 200
        assert (await lab.get("360p/index.m3u8")).status == 200  # players of the index have no other playlist
        lab.publish("360p")
        assert (await lab.play(19).get("360p/video/index.m3u8")).status == 200
        lab.hub.end("c1@360p", EndReason.NO_MEDIA)
        assert (await lab.get("360p/index.m3u8")).status == 404  # no ENDLIST while the source is live


async def test_a_missing_segment_of_a_lost_rendition_is_empty() -> None:
    async with ladder(TABLE, ALL, hls_time="1") as lab:
        lab.begin().play(9)
        name = parse(await lab.text("360p/video/index.m3u8")).segments[-1].uri
        lab.leave("360p")
        lab.play(15)
        async with asyncio.timeout(at_most(6)):
            early = await lab.get("360p/video/" + re.sub(r"-\d+\.m4s", "-6.m4s", name))
        assert (early.status, early.headers["cache-control"]) == (200, "no-store") and len(early.body) < 100
        lab.publish("360p")
        lab.play(19)
        present = parse(await lab.text("360p/video/index.m3u8")).segments[-1].uri
        assert present.partition("-")[0] != name.partition("-")[0]  # another epoch
        before, passed_over = ("video/" + re.sub(r"-\d+\.m4s", "-7.m4s", n) for n in (name, present))
        async with asyncio.timeout(at_most(2)):
            for path in (f"360p/{before}", f"360p/{passed_over}"):
                late = await lab.get(path)
                assert late.status == 200 and late.body == early.body
            # A stream by itself: what its clock had promised before it was away, and nothing else.
            assert (await lab.listener.get(f"/c1@360p/{before}")).body == early.body
            assert (await lab.listener.get(f"/c1@360p/{passed_over}")).status == 404
        assert (await lab.get("360p/video/" + re.sub(r"-\d+\.m4s", "-99.m4s", name))).status == 404


async def test_an_ended_ladder_stays_available_for_a_while() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        lab.hub.drain()
        assert uris(await lab.text("index.m3u8")) == [f"{r.name}/index.m3u8" for r in RUNGS]
        assert parse(await lab.text("360p/index.m3u8")).ended
        assert "360p" in await lab.text("master.m3u8")


async def test_a_protected_ladder_needs_the_channels_signature_everywhere() -> None:
    async with ladder(TABLE, ALL, playAuth="sign") as lab:
        lab.begin().play(9)
        sign = f"sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"
        for path in LISTS:
            assert (await lab.get(path)).status == 403
            assert sign in await lab.text(f"{path}?{sign}")
        rung = uris(await lab.text(f"index.m3u8?{sign}"))[0]
        segment = uris(await lab.text(rung))[0]
        assert (await lab.get(f"360p/{segment}")).status == 200
        assert (await lab.get(f"360p/{segment.partition('?')[0]}")).status == 403


async def test_a_query_that_is_too_long_is_refused() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        for path in ("index.m3u8", "master.m3u8", "manifest.mpd"):
            assert (await lab.get(f"{path}?{'x' * 3000}")).status == 414


async def test_viewers_of_renditions_count_as_viewers_of_the_channel() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(9)
        await lab.text("360p/index.m3u8")
        await lab.text("720p/index.m3u8")
        await lab.text("360p/video/index.m3u8")
        assert not lab.stream().viewers, "nobody got media"
        for folder in ("720p", "360p/video"):
            playlist = await lab.text(f"{folder}/index.m3u8")
            await lab.get(f"{folder}/{next(line for line in playlist.splitlines() if line[:1] not in ('#', ''))}")
        assert dict(lab.stream().viewers) == {"hls": 1, "cmaf": 1}
        assert not lab.stream("360p").viewers


async def test_playlists_are_cached_until_something_changes() -> None:
    async with ladder(TABLE, ALL) as lab:
        lab.begin().play(14.2)
        for path, respond in (("index.m3u8", lab.ladders.index), ("master.m3u8", lab.ladders.cmaf)):
            first = respond(request(f"/c1/{path}"), lab.stream(), path)
            assert respond(request(f"/c1/{path}"), lab.stream(), path) is first
            lab.play(lab.reached + 2.5)
            assert respond(request(f"/c1/{path}"), lab.stream(), path) is not first


async def test_the_status_names_the_live_renditions() -> None:
    async with ladder(TABLE, ALL, linger=60.0) as lab:
        lab.begin()
        status = json.loads(await lab.text("status.json"))
        assert [r["name"] for r in status["renditions"]] == ["360p", "480p", "720p"]
        assert all(r["bitrate"] > 100_000 and r["outputs"] == ["flv", "hls", "cmaf"] for r in status["renditions"])
        assert (status["ladder"], status["poster"]) == ("hls", None)
        lab.leave("480p")  # the rendition lingers: a player that opens it would wait
        assert [r["name"] for r in json.loads(await lab.text("status.json"))["renditions"]] == ["360p", "720p"]
        of_a_rung = json.loads((await lab.listener.get("/c1@720p/status.json")).body)
        assert (of_a_rung["live"], of_a_rung["renditions"], of_a_rung["ladder"]) == (True, [], None)


async def test_the_status_shows_the_playlist_form_of_an_hevc_ladder() -> None:
    async with ladder(TABLE, ALL, codec="libx265") as lab:
        lab.begin()
        assert json.loads(await lab.text("status.json"))["ladder"] == "cmaf"


async def test_the_status_of_a_stream_without_a_ladder_has_no_renditions() -> None:
    async with ladder(TABLE, {}, isCodec=False) as lab:
        lab.begin()
        status = json.loads(await lab.text("status.json"))
        assert (status["renditions"], status["ladder"]) == ([], None)
