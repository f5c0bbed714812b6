"""The HTTP answers of HLS, LL-HLS and DASH, from a stream whose frames the test gives one by one."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.formats.hls.media_playlist import MARK
from gateway.formats.mp4.fragment import STYP
from gateway.http.request import RequestError
from gateway.http.response import Response
from gateway.lib.gate import Gate
from gateway.live.output import Outputs, OutputSpec, StreamOutput
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.packaging.cmaf.track import CmafTrack
from gateway.playback.cmaf import cmaf as answer_cmaf
from gateway.playback.hls import hls as answer_hls
from gateway.playback.playlist_response import cached_playlist, start_output
from gateway.ports.events import Events
from tests.support import segmented
from tests.support.builders import channel, spec
from tests.support.hls_rules import check, parse
from tests.support.http import request
from tests.support.segmented import WALL, Timetable
from tests.support.time_outs import at_most

SECONDS = 5  # after which a test has failed, whatever it waits for


class Origin:
    """A live stream with both packagers, and the units still to come."""

    def __init__(self, table: Timetable | None = None, *, on: tuple[str, ...] = ("hls", "cmaf")) -> None:
        self.ts, self.cmaf = segmented.ts(), segmented.cmaf()
        made: dict[str, StreamOutput] = {"hls": self.ts, "cmaf": self.cmaf}
        specs = [OutputSpec(n, lambda s, o=o: o, lambda s, n=n: n in on) for n, o in made.items()]
        make_outputs = partial(Outputs, specs=specs, events=Events())
        self.stream = Stream(spec("c1", WALL), channel(), outputs=make_outputs)
        self.publisher = cast(StreamPublisher, object())
        self.stream.publisher = self.publisher
        self.table = table or Timetable(seconds=60)
        self._units: Iterator[AccessUnit] = self.table.units()
        self._next = next(self._units)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Origin:
        assert self.stream.outputs is not None
        self._task = asyncio.create_task(self.stream.outputs.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.stream.set_tracks(self.table.video, self.table.audio, {}, False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.stream.ended is None:
            self.stream.end(EndReason.SHUTDOWN)
        assert self._task is not None
        await asyncio.wait_for(self._task, at_most(SECONDS))

    def play(self, until: float) -> Origin:
        """Pushes the units that arrive before `until` seconds."""
        while self._next.wall - WALL < until:
            self.stream.push(self._next)
            self._next = next(self._units)
        return self

    def lane(self) -> CmafTrack:
        """The track of the pictures, with all pushed units packaged."""
        self.cmaf.catch_up()
        return self.cmaf.manifests.tracks[0]

    def ask(self, target: str, **headers: str) -> Any:
        wanted = request(f"/c1/{target}", **headers)
        answer = answer_hls if target.partition("?")[0].endswith((".ts", "live.m3u8")) else answer_cmaf
        return answer(wanted, self.stream, target.partition("?")[0])

    async def get(self, target: str, **headers: str) -> Response:
        found = self.ask(target, **headers)
        if inspect.isawaitable(found):
            found = await asyncio.wait_for(found, at_most(SECONDS))
        assert isinstance(found, Response)
        return found

    async def text(self, target: str) -> str:
        found = await self.get(target)
        assert found.status == 200 and isinstance(found.body, bytes), (found.status, found.body)
        return found.body.decode()


async def later(coroutine: Any) -> asyncio.Task[Response]:
    """Starts a request; one that needs no wait is answered before this returns."""
    task = asyncio.create_task(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


# ---- HLS with MPEG-TS ----


async def test_the_first_playlist_is_waited_for() -> None:
    async with Origin() as o:
        task = await later(o.get("live.m3u8"))
        assert not task.done()
        o.play(2.2)
        answer = await task
        assert answer.status == 200 and answer.cache == "no-cache"
        assert answer.content_type == "application/vnd.apple.mpegurl"


async def test_segments_are_immutable_and_named_by_the_playlist() -> None:
    async with Origin() as o:
        o.play(11)
        playlist = check(parse(await o.text("live.m3u8")))
        assert len(playlist.segments) == 5
        answer = await o.get(playlist.segments[-1].uri)
        assert answer.content_type == "video/mp2t" and "immutable" in answer.cache and "max-age" in answer.cache
        assert answer is await o.get(playlist.segments[-1].uri)
        assert (await o.get("1.ts")).status == 404


async def test_a_playlist_is_made_once_until_it_changes() -> None:
    async with Origin() as o:
        o.play(5)
        one = await o.get("live.m3u8")
        assert await o.get("live.m3u8") is one
        assert await o.get("live.m3u8") is not await o.play(7).get("live.m3u8") is not one


async def test_the_query_is_copied_to_every_uri_without_delivery_directives() -> None:
    async with Origin() as o:
        o.play(9)
        for target in ("live.m3u8", "master.m3u8", "video/index.m3u8", "audio/index.m3u8"):
            text = await o.text(f'{target}?sign=1-ab&_HLS_skip=YES&x=%22"<\r')
            plain = [line for line in text.split("\n") if line and line[0] != "#"]
            for uri in [*plain, *re.findall(r'URI="([^"]*)"', text)]:
                assert uri.endswith("?sign=1-ab&x=%22%22%3C%0D")
            assert "_HLS_" not in text and "\r" not in text
        mpd = await o.text("manifest.mpd?sign=1&b=$Number$")
        assert "sign=1&amp;b=$$Number$$" in mpd
        assert (await o.get("live.m3u8?" + "x" * 3000)).status == 414


async def test_a_request_for_a_disabled_output_gets_404_with_the_reason() -> None:
    async with Origin(on=("hls",)) as o:
        answer = await o.get("master.m3u8")
        assert (answer.status, answer.body) == (404, b"cmaf is not enabled for c1\n")
        assert answer.cache == "no-store"


async def test_an_unsupported_codec_is_named_to_the_player_and_to_the_operator() -> None:
    av1 = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\x04\x0c\x00")
    async with Origin(Timetable(video=av1, audio=None)) as o:
        waiting = await later(o.get("live.m3u8"))
        answer = await waiting
        assert answer.status == 404 and b"av1" in (answer.body or b"")  # type: ignore[operator]
        await asyncio.sleep(0)
        assert o.stream.outputs is not None
        status = {s["name"]: s for s in o.stream.outputs.status()}
        assert status["hls"]["state"] == "failed" and "av1" in str(status["hls"]["error"])
        assert status["cmaf"]["state"] == "running"
        assert (await o.get("live.m3u8")).status == 404


async def test_an_ended_stream_keeps_its_playlist_with_an_end() -> None:
    async with Origin() as o:
        o.play(7).stream.end(EndReason.PUBLISHER_GONE)
        assert "#EXT-X-ENDLIST" in await o.text("live.m3u8")
        for kind in ("video", "audio"):
            text = await o.text(f"{kind}/index.m3u8?_HLS_msn=500")
            assert "#EXT-X-ENDLIST" in text and "PRELOAD-HINT" not in text


# ---- LL-HLS ----


async def test_a_blocking_request_is_answered_when_the_part_is_there() -> None:
    async with Origin() as o:
        o.play(4.2)
        before = check(parse(await o.text("video/index.m3u8")))
        assert before.last == 2 and before.open is None
        task = await later(o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=0"))
        assert not task.done()
        o.play(4.52)
        answer = await task
        after = check(parse(answer.body.decode()))  # type: ignore[union-attr]
        assert after.open is not None and len(after.open.parts) == 1
        assert answer.cache.startswith("max-age=")


async def test_a_blocking_request_for_a_segment_waits_for_all_of_it() -> None:
    async with Origin() as o:
        o.play(4.2)
        task = await later(o.get("video/index.m3u8?_HLS_msn=3"))
        o.play(5.9)
        await asyncio.sleep(0)
        assert not task.done()
        o.play(6.1)
        assert check(parse((await task).body.decode())).last == 3  # type: ignore[union-attr]


async def test_a_part_number_beyond_a_segment_means_the_next_segments_first_part() -> None:
    async with Origin() as o:
        o.play(6.1)
        task = await later(o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=4"))
        assert not task.done()
        o.play(6.6)
        found = check(parse((await task).body.decode()))  # type: ignore[union-attr]
        assert found.open is not None and found.open.number == 4


async def test_a_request_for_a_very_short_final_part_waits_for_another_part() -> None:
    """hls.js would take the segment as buffered while it appends the part before."""
    async with Origin(Timetable(seconds=60, gop=(60, 60, 62))) as o:  # parts of 0.5 s: 67 ms remain of segment 3
        o.play(6.2)
        task = await later(o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=4"))
        whole = await later(o.get("video/index.m3u8?_HLS_msn=3"))
        assert whole.done() and not task.done()
        o.play(6.7)
        found = check(parse((await task).body.decode()))  # type: ignore[union-attr]
        assert len(found.segments[-1].parts) == 5
        assert found.open is not None and found.open.number == 4 and len(found.open.parts) == 1
        answer = await later(o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=4"))
        assert answer.done()


async def test_a_very_short_final_part_of_an_ended_stream_is_given_at_once() -> None:
    async with Origin(Timetable(seconds=60, gop=(60, 60, 62))) as o:
        o.play(6.2)
        task = await later(o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=4"))
        o.stream.end(EndReason.KICKED)
        assert "ENDLIST" in (await task).body.decode()  # type: ignore[union-attr]


NONSENSE = (
    "_HLS_msn=103",
    "_HLS_msn=6",
    "_HLS_msn=3&_HLS_part=40",
    "_HLS_msn=4&_HLS_part=6",
    "_HLS_msn=x",
    "_HLS_msn=-1",
    "_HLS_part=1",
    "_HLS_msn=3&_HLS_part=1.5",
    "_HLS_msn=99999999999999999",
)


@pytest.mark.parametrize("query", NONSENSE)
async def test_invalid_directives_are_refused_at_once(query: str) -> None:
    async with Origin() as o:
        o.play(4.2)
        answer = await o.get(f"video/index.m3u8?{query}")
        assert answer.status == 400 and answer.cache == "no-store"


@pytest.mark.parametrize("part", [0, 5])
async def test_a_request_for_an_early_part_of_the_segment_after_the_open_one_waits(part: int) -> None:
    async with Origin() as o:
        o.play(4.7)
        task = await later(o.get(f"video/index.m3u8?_HLS_msn=4&_HLS_part={part}"))
        assert not task.done()
        o.play(9.2)
        assert (await task).status == 200


async def test_a_request_that_is_never_fulfilled_ends_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.playback.hls.HOLD", 0.001)
    async with Origin() as o:
        o.play(4.2)
        answer = await o.get("video/index.m3u8?_HLS_msn=3&_HLS_part=0")
        assert answer.status == 503 and answer.headers["Retry-After"] == "1"


async def test_waiting_requests_are_answered_when_the_stream_ends() -> None:
    async with Origin() as o:
        o.play(4.2)
        blocked = await later(o.get("video/index.m3u8?_HLS_msn=4"))
        hint = check(parse(await o.text("video/index.m3u8"))).hint
        hinted = await later(o.get(f"video/{hint}"))
        o.stream.end(EndReason.KICKED)
        assert "ENDLIST" in (await blocked).body.decode()  # type: ignore[union-attr]
        assert (await hinted).status in (200, 404)


async def test_requests_for_the_next_part_wait_where_the_stream_has_moved_to_another_node() -> None:
    async with Origin() as o:
        o.play(4.2)
        o.stream.end(EndReason.MOVED)
        for _ in range(2):
            blocked = await later(o.get("video/index.m3u8?_HLS_msn=4"))
            assert not blocked.done(), "players would repeat it at once"
            answer = await blocked
            assert answer.status == 200 and "ENDLIST" not in answer.body.decode()  # type: ignore[union-attr]


async def test_the_hinted_part_is_fetched_ahead_even_where_a_key_frame_begins_a_segment() -> None:
    async with Origin() as o:
        o.play(5.99)  # four parts of segment 3; the next frame is a key frame
        playlist = check(parse(await o.text("video/index.m3u8")))
        assert playlist.open is not None and len(playlist.open.parts) == 4
        task = await later(o.get(f"video/{playlist.hint}"))
        assert not task.done()
        o.play(6.6)
        answer = await task
        assert answer.status == 200 and isinstance(answer.body, bytes) and answer.body[4:8] in (b"styp", b"moof")
        after = check(parse(await o.text("video/index.m3u8")))
        assert after.open is not None and after.open.number == 4 and after.open.parts[0].uri == playlist.hint


async def test_rendition_reports_name_the_newest_part_of_the_other_track() -> None:
    async with Origin() as o:
        o.play(8.7)
        video = check(parse(await o.text("video/index.m3u8")))
        audio = check(parse(await o.text("audio/index.m3u8")))
        for one, other, name in ((video, audio, "../audio/index.m3u8"), (audio, video, "../video/index.m3u8")):
            assert other.open is not None
            assert one.reports == {name: (other.open.number, len(other.open.parts) - 1)}


async def test_a_delta_update_leaves_out_segments_that_the_client_has() -> None:
    async with Origin() as o:
        o.play(8.2)
        await o.get("video/index.m3u8")  # from now on, more segments are listed
        o.play(24.2)
        full = check(parse(await o.text("video/index.m3u8")))
        delta = check(parse(await o.text("video/index.m3u8?_HLS_skip=YES")))
        assert delta.skipped > 0 and full.skipped == 0
        assert [s.uri for s in full.segments][delta.skipped :] == [s.uri for s in delta.segments]
        o2 = await o.get("video/index.m3u8?_HLS_skip=v2")
        assert o2 is await o.get("video/index.m3u8?_HLS_skip=YES")


async def test_a_playlist_that_has_ended_is_given_whole() -> None:
    async with Origin() as o:
        o.play(8.2)
        await o.get("video/index.m3u8")
        o.play(24.2)
        assert "EXT-X-SKIP" in await o.text("video/index.m3u8?_HLS_skip=YES")
        o.stream.end(EndReason.PUBLISHER_GONE)
        ended = await o.text("video/index.m3u8?_HLS_skip=YES")
        assert ended.endswith("#EXT-X-ENDLIST\n") and "EXT-X-SKIP" not in ended


async def test_a_short_playlist_has_nothing_to_skip() -> None:
    async with Origin() as o:
        o.play(8.2)
        assert "EXT-X-SKIP" not in await o.text("video/index.m3u8?_HLS_skip=YES")


async def test_fragments_have_their_media_types_and_are_immutable() -> None:
    async with Origin() as o:
        o.play(8.2)
        for kind in ("video", "audio"):
            playlist = check(parse(await o.text(f"{kind}/index.m3u8")))
            segment = playlist.segments[-1]
            names = [segment.uri, segment.map_uri, segment.parts[0].uri]
            for name in names:
                answer = await o.get(f"{kind}/{name}")
                assert answer.status == 200 and answer.content_type == f"{kind}/mp4" and "immutable" in answer.cache
        for name in ("video/x.m4s", "video/1-2.m4s", "audio/1-init-9.mp4", "data/index.m3u8"):
            assert (await o.get(name)).status == 404


# ---- DASH ----


async def test_an_open_segment_comes_chunk_by_chunk() -> None:
    async with Origin() as o:
        o.play(4.6)
        uri = f"video/{o.cmaf.manifests.tracks[0].segment_uri(3)}"
        answer = await o.get(uri)
        assert isinstance(answer.body, AsyncIterator) and answer.length is None
        pieces = [await anext(answer.body)]
        following = asyncio.ensure_future(anext(answer.body))
        await asyncio.sleep(0)
        assert not following.done()
        o.play(6.2)
        pieces.append(await following)
        pieces += [piece async for piece in answer.body]
        whole = await o.get(uri)
        assert b"".join(pieces) == whole.body and len(pieces) == 4


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Sets the clock of answers, in seconds after the stream's start."""
    monkeypatch.setattr("gateway.playback.cmaf.time", SimpleNamespace(time=lambda: WALL + seconds))


async def test_a_request_waits_for_the_next_segment_and_not_for_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 5.0)
    async with Origin() as o:
        o.play(5.0)
        lane = o.cmaf.manifests.tracks[0]
        task = await later(o.get(f"video/{lane.segment_uri(4)}"))
        assert not task.done()
        assert (await o.get(f"video/{lane.segment_uri(5)}")).status == 404
        o.play(6.6)
        assert (await task).status == 200


async def test_requests_for_segments_that_are_late_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher's link stalls. Players that follow the manifest's clock still request the segments in time."""
    monkeypatch.setattr("gateway.playback.cmaf.HOLD", 0.001)
    async with Origin() as o:
        lane = o.play(5.0).lane()
        at(monkeypatch, 9.0)
        tasks = [await later(o.get(f"video/{lane.segment_uri(n)}")) for n in (5, 6)]
        assert (await o.get(f"video/{lane.segment_uri(8)}")).status == 404
        assert [(await task).status for task in tasks] == [503, 503]


async def test_an_open_segment_that_is_never_finished_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.playback.cmaf.HOLD", 0.001)
    async with Origin() as o:
        o.play(4.6)
        answer = await o.get(f"video/{o.cmaf.manifests.tracks[0].segment_uri(3)}")
        assert isinstance(answer.body, AsyncIterator)
        with pytest.raises(RequestError):
            _ = [piece async for piece in answer.body]


async def test_the_manifest_has_the_current_time_in_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Origin() as o:
        o.play(6)
        monkeypatch.setattr("gateway.playback.dash.time.time", lambda: WALL + 100)
        answer = await o.get("manifest.mpd")
        assert answer.content_type == "application/dash+xml" and answer.cache == "no-cache"
        assert 'utc:direct:2014" value="2023-11-14T22:15:00.000Z"' in answer.body.decode()  # type: ignore[union-attr]


async def test_the_manifest_is_given_once_every_player_can_begin_with_it() -> None:
    async with Origin() as o:
        o.play(2.2)
        assert (await o.get("master.m3u8")).status == 200
        task = await later(o.get("manifest.mpd"))
        o.play(2.9)
        await asyncio.sleep(0)
        assert not task.done()
        o.play(3.6)
        answer = await task
        assert answer.status == 200 and b'timeShiftBufferDepth="PT3.000S"' in (answer.body or b"")  # type: ignore[operator]


async def test_requests_for_next_segments_wait_while_the_stream_lingers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.playback.cmaf.HOLD", 0.001)
    async with Origin() as o:
        lane = o.play(6.2).lane()
        o.stream.publisher = None
        tasks = [await later(o.get(f"video/{lane.segment_uri(n)}")) for n in (5, 6)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in tasks)
        o.stream.publisher = o.publisher
        o.play(8.6)
        assert (await tasks[0]).status == 200
        assert (await tasks[1]).status == 503


async def test_an_open_segment_is_completed_by_the_end_of_a_stream_that_lingered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.playback.cmaf.HOLD", 0.001)
    async with Origin() as o:
        o.play(6.7)
        uri = f"video/{o.cmaf.manifests.tracks[0].segment_uri(4)}"
        answer = await o.get(uri)
        o.stream.publisher = None
        assert isinstance(answer.body, AsyncIterator)
        pieces = [await anext(answer.body)]
        following = asyncio.ensure_future(anext(answer.body))
        await asyncio.sleep(0.02)
        assert not following.done()
        o.stream.end(EndReason.PUBLISHER_GONE)
        pieces += [await following, *[piece async for piece in answer.body]]
        assert b"".join(pieces) == (await o.get(uri)).body


async def test_segments_promised_by_the_manifest_of_an_ended_stream_are_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal would make players ask again and again until they see the manifest's end."""
    monkeypatch.setattr("gateway.playback.cmaf.MANIFEST_LOAD_SECONDS", 0.001)
    async with Origin() as o:
        lane = o.play(6.2).lane()
        o.stream.publisher = None
        waiting = await later(o.get(f"video/{lane.segment_uri(5)}"))
        o.stream.end(EndReason.PUBLISHER_GONE)
        lane.window.longest = 0.0
        for answer in (await waiting, await o.get(f"video/{lane.segment_uri(lane.number)}")):
            assert answer.status == 200 and answer.cache == "no-store"
            assert isinstance(answer.body, bytes) and answer.body[4:8] == b"styp" and b"moof" not in answer.body
        assert (await o.get(f"video/{lane.segment_uri(lane.number + 5000)}")).status == 404
        mpd = await o.text("manifest.mpd")
        assert 'type="static"' in mpd and "mediaPresentationDuration" in mpd and "minimumUpdatePeriod" not in mpd


async def test_names_of_an_epoch_never_give_media_of_the_next_epoch() -> None:
    """The next epoch needs another initialization segment: ISO/IEC 23009-1 §5.3.2, RFC 8216bis §4.4.4.5."""
    async with Origin() as o:
        lane = o.play(4.5).lane()  # a part is complete with its last frame
        named = [f"video/{lane.segment_uri(n)}" for n in (4, 5, 40)]
        part = f"video/{lane.part_uri(lane.part_number + 1)}"
        hinted = f"video/{check(parse(await o.text('video/index.m3u8'))).hint}"
        before = [await later(o.get(uri)) for uri in (named[0], hinted)]
        o.stream.set_tracks(o.table.video, o.table.audio, {}, False)
        o.play(9)
        assert lane.number > 4
        for uri in named[:2]:  # what the clock had promised: empty
            answer = await o.get(uri)
            assert (answer.status, answer.body, answer.cache) == (200, STYP, "no-store")
        assert (await before[0]).body == STYP
        for answer in [await before[1], *[await o.get(uri) for uri in (hinted, part, named[2])]]:
            assert answer.status == 404 and answer.cache == "no-store"
        assert lane.segment_uri(4) != named[0] and (await o.get(f"video/{lane.segment_uri(4)}")).status == 200
        playlist = check(parse(await o.text("video/index.m3u8")))
        names = [s.uri.partition("-")[0] for s in playlist.segments]
        assert len(set(names)) == 2 and names == sorted(names, key=int)
        for s in playlist.segments:
            assert (await o.get(f"video/{s.uri}")).status == 200
            assert s.map_uri.partition("-")[0] == s.uri.partition("-")[0]


# ---- what a page is told ----


async def test_an_output_is_ready_when_its_playlist_would_be_answered() -> None:
    async with Origin() as o:
        o.play(1.9)
        assert not start_output(o.stream, "hls") and not start_output(o.stream, "cmaf")
        o.play(2.1)  # a batch of units waits to be packaged
        for name, path in (("hls", "live.m3u8"), ("cmaf", "master.m3u8")):
            assert start_output(o.stream, name)
            assert isinstance(o.ask(path), Response)
        o.stream.end(EndReason.KICKED)
        assert start_output(o.stream, "cmaf")


async def test_an_output_that_is_off_or_refuses_the_stream_is_not_ready() -> None:
    av1 = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, b"\x81\x04\x0c\x00")
    async with Origin(Timetable(video=av1, audio=None), on=("hls",)) as o:
        await asyncio.sleep(0)
        assert not start_output(o.stream, "hls") and not start_output(o.stream, "cmaf")


# ---- waiting ----


async def test_a_gate_forgets_requests_that_no_longer_wait() -> None:
    gate = Gate()
    assert not await gate.until(lambda: False, 0.001)
    task = await later(gate.until(lambda: False, 10))
    gate.open()
    await asyncio.sleep(0)
    assert len(gate) == 1
    task.cancel()
    await asyncio.wait([task])
    assert len(gate) == 0


async def test_waiting_requests_get_404_when_the_output_is_switched_off() -> None:
    async with Origin() as o:
        o.play(1)
        task = await later(o.get("master.m3u8"))
        assert o.stream.outputs is not None
        o.stream.outputs.switch("cmaf", False)
        assert (await task).status == 404


def test_a_playlist_of_many_hours_takes_only_a_query_whose_copies_are_small() -> None:
    def make() -> str:
        return f"1.ts{MARK}\n" * 10_000

    cache: dict[object, object] = {}
    answers = [cached_playlist(cache, "live", f"?{'x' * size}", make) for size in (1_000, 2_000)]
    assert [answer.status for answer in answers] == [200, 414]
    assert cached_playlist(cache, "live", "", make).body == b"1.ts\n" * 10_000
