"""The watermark on live streams: real workers decode, overlay and encode; viewer and original are compared."""

import asyncio
import io
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from gateway.lib.backoff import Backoff
from gateway.live.output import OutputSpec
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Kind, TimedData
from gateway.outputs.watermark import watermark_assets
from gateway.ports.events import Event, Events, EventType
from tests.support import builders, sources
from tests.support.at_night import at_night
from tests.support.marking import WatermarkHub, pictures, play
from tests.support.served_app import served_app
from tests.support.waiting import until

TEXT = {"isWaterMark": True, "WaterMarkText": "\u25a0", "WaterMarkFontSize": 80, "WaterMarkFontColor": "#00ff00"}
AT = {"WaterMarkLeft": 40, "WaterMarkTop": 20}


def gray(seconds: float = 4, size: str = "320x180", **options: Any) -> sources.Source:
    """A gray source of 15 pictures a second in which nothing is green, with sound."""
    return sources.source(
        *(
            "-f",
            "lavfi",
            "-i",
            f"color=0x808080:s={size}:r={options.get('rate', 15)},noise=alls=6:allf=t{options.get('more', '')}",
        ),
        *sources.tone(),
        *("-t", str(seconds), *sources.X264, "-g", str(options.get("gop", 15)), "-bf", str(options.get("bf", 0))),
        *("-pix_fmt", options.get("pixels", "yuv420p"), *options.get("codec", ()), *sources.AAC),
    )


def marked(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Returns the area of the picture that is green, or None."""
    red, green, blue = image.convert("RGB").split()
    mask = green.point(lambda v: 255 if v > 170 else 0)
    for other in (red, blue):
        low = other.point(lambda v: 255 if v < 110 else 0)
        mask = Image.composite(mask, Image.new("L", mask.size), low)
    return mask.getbbox()


def milliseconds(unit: AccessUnit) -> int:
    return unit.dts * 1000 // unit.track.timescale


def grows(units: list[AccessUnit]) -> bool:
    return all(a.dts < b.dts for a, b in itertools.pairwise(units))


async def test_text_and_picture_appear_at_their_place_from_the_first_frame_on() -> None:
    async with serving_pictures() as (url, _), WatermarkHub().open() as lab:
        source = gray(3)
        publisher = lab.publish(
            source, **TEXT, **AT, isImageWaterMark=True, ImageURL=f"{url}/blue.png", ImageWidth=120, ImageHeight=100
        )
        await play(publisher, source.units)
        await lab.end()
        shown = pictures(lab.seen())
    assert len(shown) == len(source.of(Kind.VIDEO))
    for _, image in shown:
        box = marked(image)
        assert box is not None
        assert abs(box[1] - 20) <= 2, "the top of the square"
        assert 40 <= box[0] <= 50
        assert box[2] < 110, "a square of about 50 pixels, not more"
        for x, y, inside in ((42, 22, True), (157, 117, True), (162, 60, False), (100, 122, False)):
            red, green, blue = image.getpixel((x, y))  # type: ignore[misc]
            assert (blue > 180 and red < 90 and green < 90) == inside, (x, y, red, green, blue)


async def test_only_the_pictures_are_changed_by_the_watermark() -> None:
    source = gray(3, bf=2, rate=30, gop=30)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        publisher.push_timed(TimedData(0, Script("onTextData", b"x")))
        await play(publisher, source.units)
        await lab.end()
    video, given = lab.seen(), source.of(Kind.VIDEO)
    assert lab.original.units == [
        replace(u, wall=o.wall) for u, o in zip(source.units, lab.original.units, strict=True)
    ]
    # Sound and script data are unchanged and in order. Pictures keep their times and their key frames.
    assert [(u.dts, u.payload) for u in lab.seen(Kind.AUDIO)] == [(u.dts, u.payload) for u in source.of(Kind.AUDIO)]
    assert [i for i in lab.viewer.items if isinstance(i, TimedData)] == [TimedData(0, Script("onTextData", b"x"))]
    assert sorted(u.dts + u.cts for u in video) == sorted(u.dts + u.cts for u in given)
    assert [u.dts for u in video if u.key] == [u.dts for u in given if u.key]
    assert grows(video)
    assert [t.epoch for t in lab.viewer.tracks] == [0]
    # Sound and pictures alternate as in the source, within a picture or two.
    newest = 0
    for unit in lab.viewer.units:
        if unit.track.kind is Kind.VIDEO:
            newest = milliseconds(unit)
        else:
            assert abs(milliseconds(unit) - newest) < 150


async def test_the_watermark_can_be_switched_on_and_off_without_a_gap() -> None:
    source = gray(12, bf=2)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **{**TEXT, "isWaterMark": False}, **AT)
        stages: list[Callable[[], bool]] = [
            lambda: len(lab.seen()) > 20,
            lambda: lab.report().get("shown", False) and len(lab.viewer.tracks) == 2 and len(lab.seen()) > 75,
            lambda: len(lab.viewer.tracks) == 3 and len(lab.seen()) > 120,
        ]
        units, at = list(source.units), 0
        for action, stage in zip((None, True, False), stages, strict=True):
            if action is not None:
                lab.switch(action)
            at += await play(publisher, units[at:], until=stage)
        await lab.end()
    video, given = lab.seen(), [u for u in units[:at] if u.track.kind is Kind.VIDEO]
    assert grows(video)
    assert sorted(u.dts + u.cts for u in video) == sorted(u.dts + u.cts for u in given)
    assert [(u.dts, u.payload) for u in lab.seen(Kind.AUDIO)] == [
        (u.dts, u.payload) for u in source.of(Kind.AUDIO)[: len(lab.seen(Kind.AUDIO))]
    ]
    assert [t.epoch for t in lab.viewer.tracks] == [0, 1, 2]
    seen = [marked(image) is not None for _, image in pictures(video)]
    on = seen.index(True)
    off = len(seen) - 1 - seen[::-1].index(True)
    assert all(seen[on : off + 1]), "once there, it stays until it is switched off"
    keys = {u.dts + u.cts for u in given if u.key}
    times = sorted(u.dts + u.cts for u in video)
    assert {times[on], times[off + 1]} <= keys, "changes at key frames"


def is_right(lab: WatermarkHub) -> bool:
    """Returns whether the mark is on the right in the newest picture."""
    place = marked(pictures(lab.seen())[-1][1])
    return place is not None and place[0] > 195


async def test_changes_of_text_place_and_picture_appear_without_a_break() -> None:
    async with serving_pictures() as (url, _), WatermarkHub().open() as lab:
        source = gray(12)
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 20)
        lab.change(WaterMarkLeft=200, WaterMarkTop=90)
        moved = len(lab.seen())
        at += await play(publisher, units[at:], until=lambda: len(lab.seen()) > moved + 20 and is_right(lab))
        moved_by = len(lab.seen())
        lab.change(isWaterMark=False, isImageWaterMark=True, ImageURL=f"{url}/green.png")
        pictured = len(lab.seen())
        await play(publisher, units[at:], until=lambda: len(lab.seen()) > pictured + 30)
        await lab.end()
    assert [t.epoch for t in lab.viewer.tracks] == [0], "no new sequence headers, no discontinuity"
    places = [marked(image) for _, image in pictures(lab.seen())]
    assert all(places)
    lefts = [place[0] for place in places if place is not None]
    assert lefts[moved - 5] < 60
    assert lefts[moved_by - 1] > 195
    assert places[-1] is not None
    assert places[-1][2] - places[-1][0] >= 90, "the picture is as wide as it was told to be"
    assert places[-1][:2] == (200, 90)


async def test_a_killed_worker_is_replaced_and_the_original_is_never_shown() -> None:
    source = gray(10, gop=90)  # a key frame between the end and the new worker would cost the pictures before it
    async with WatermarkHub(
        MILLRACE_TRANSCODE__BACKLOG="10"
    ).open() as lab:  # a busy machine may take long for the new one
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 22)
        before, killed = len(lab.seen()), time.monotonic()
        lab.signal_worker()
        at += await play(publisher, units[at:], until=lambda: len(lab.seen()) > before + 5)
        gone = time.monotonic() - killed
        await play(publisher, units[at:], until=lambda: len(lab.seen()) > before + 30)
        report = lab.report()
        await lab.end()
    assert report["restarts"] == 1
    assert report["error"] is None
    assert gone < 10, "on a machine with other work; alone it takes 0.6 s"
    assert [t.epoch for t in lab.viewer.tracks] == [0, 1], "one discontinuity"
    assert all(marked(image) is not None for _, image in pictures(lab.seen()))
    assert grows(lab.seen())
    times = [milliseconds(u) for u in lab.seen()]
    assert max(b - a for a, b in itertools.pairwise(times)) < 100, "no picture is missing"
    assert [(u.dts, u.payload) for u in lab.seen(Kind.AUDIO)] == [
        (u.dts, u.payload) for u in source.of(Kind.AUDIO)[: len(lab.seen(Kind.AUDIO))]
    ]


async def test_a_hanging_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.watermark.watermark_output._HANG_SECONDS", 1.0)
    source = gray(16)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 20)
        lab.signal_worker(signal.SIGSTOP)
        await play(publisher, units[at:], speed=1, until=lambda: lab.report()["restarts"] == 1)
        before = len(lab.seen())
        await play(
            publisher,
            [u for u in units if u.dts > lab.stream.received.last_dts_ms],
            until=lambda: len(lab.seen()) > before,
        )
        assert len(lab.seen()) > before
        await lab.end()
    assert all(marked(image) is not None for _, image in pictures(lab.seen()))


async def test_a_pausing_source_is_not_treated_as_a_hanging_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outputs.watermark.watermark_output._HANG_SECONDS", 3)
    monkeypatch.setattr("gateway.outputs.watermark.watermark_output._PAUSED_SECONDS", 0.3)
    source = gray(4, bf=2)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 20)
        await asyncio.sleep(4)  # longer than a worker may hang
        await play(publisher, units[at:])
        assert lab.report()["restarts"] == 0
        await lab.end()


async def test_damaged_pictures_do_not_stop_the_watermark() -> None:
    source = gray(6)
    noise = random.Random(7)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        units = [
            replace(u, payload=noise.randbytes(len(u.payload)))
            if u.track.kind is Kind.VIDEO and 40 <= n % 120 < 60
            else u
            for n, u in enumerate(source.units)
        ]
        await play(publisher, units)
        assert lab.report()["restarts"] == 0
        await lab.end()
    assert len(lab.seen()) > 50
    assert lab.seen()[-1].dts > 5_500
    assert grows(lab.seen())


async def test_a_returning_publisher_keeps_the_watermark() -> None:
    source = gray(2)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        await play(publisher, source.units)
        publisher.close()
        await asyncio.sleep(0.3)
        again = builders.publish(lab.hub, "c1", **TEXT, **AT)
        again.set_tracks(source.tracks.video, source.tracks.audio, {})
        await play(again, source.units)
        await lab.end()
    video = lab.seen()
    assert len(video) == 2 * len(source.of(Kind.VIDEO))
    assert grows(video)
    assert [t.epoch for t in lab.viewer.tracks] == [0, 1]
    assert all(marked(image) is not None for _, image in pictures(video))


async def test_a_source_that_changes_its_size_keeps_the_watermark() -> None:
    small, large = gray(2), gray(2, "640x360")
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(small, **TEXT, **AT)
        await play(publisher, small.units)
        publisher.set_tracks(large.tracks.video, large.tracks.audio, {})
        await play(publisher, large.shifted(small.end).units)
        await lab.end()
    shown = pictures(lab.seen())
    assert [image.size for _, image in shown].count((320, 180)) == 30
    assert [image.size for _, image in shown].count((640, 360)) == 30
    assert all(marked(image) is not None for _, image in shown)


@pytest.mark.parametrize(
    "options",
    [
        *at_night({"pixels": "yuv420p10le"}, {"pixels": "yuv444p"}, {"pixels": "yuvj420p"}, {"more": ",setsar=4/3"}),
        {"size": "321x181", "pixels": "yuv444p"},
        {"codec": ("-c:v", "libx265", "-x265-params", "log-level=error:bframes=2:keyint=30:min-keyint=30")},
        {"codec": ("-flags", "+ilme+ildct", "-x264-params", "tff=1")},
    ],
    ids=["10 bit", "4:4:4", "full range", "wide pixels", "odd size", "hevc", "interlaced"],
)
async def test_every_kind_of_picture_becomes_h264_for_all_players(options: dict[str, Any]) -> None:
    source = gray(2, **options)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        await play(publisher, source.units)
        await lab.end()
    shown = pictures(lab.seen())
    assert len(shown) == len(source.of(Kind.VIDEO))
    width, height = (int(n) & ~1 for n in options.get("size", "320x180").split("x"))
    assert {image.size for _, image in shown} == {(width, height)}
    assert all(marked(image) is not None for _, image in shown)
    gray_level = shown[15][1].convert("L").crop((200, 120, 300, 170)).resize((1, 1)).getpixel((0, 0))
    assert abs(int(gray_level) - 128) < 6, "brightness keeps its meaning"  # type: ignore[arg-type]


async def test_a_stream_without_video_is_shown_unchanged() -> None:
    events = Events()
    told: list[Event] = []
    events.listen(told.append)
    lab = WatermarkHub()
    spec = OutputSpec("watermark", lab.watermarks.make, lab.watermarks.wanted)
    lab.hub = builders.hub([spec], events=events)
    source = sources.h264().only(Kind.AUDIO)
    async with lab.open():
        publisher = lab.publish(source, **TEXT)
        await play(publisher, source.units[:100], speed=4)
        assert lab.seen(Kind.AUDIO)
        assert lab.report()["error"] is None
        await lab.end()
    assert not [e for e in told if e.type is EventType.OUTPUT_FAILED]
    assert [t.epoch for t in lab.viewer.tracks] == [0]


@pytest.mark.nightly
async def test_a_slow_worker_drops_whole_gops_and_counts_them() -> None:
    # The worker has no processor time for seconds of media, of which sockets hold one, and half a second may wait.
    lab = WatermarkHub(MILLRACE_TRANSCODE__BACKLOG="0.5")
    source = gray(8, "640x360")
    async with lab.open():
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 10)
        lab.signal_worker(signal.SIGSTOP)
        await play(publisher, units[at:], speed=8)
        before = len(lab.seen())
        lab.signal_worker(signal.SIGCONT)
        await until(lambda: len(lab.seen()) > before, "the worker continues")
        report = lab.report()
        await lab.end()
    assert report["dropped"] > 0
    assert sum(lab.dropped.values.values()) == report["dropped"]
    video = lab.seen()
    assert grows(video)
    shown = {u.dts for u in video}
    given = source.of(Kind.VIDEO)
    groups = [[u.dts in shown for u in given[n : n + 15]] for n in range(0, len(given), 15)]
    assert all(group == sorted(group, reverse=True) for group in groups), "a group is never entered in the middle"


@pytest.mark.nightly
async def test_without_a_free_worker_a_live_stream_stays_unmarked_and_the_output_retries() -> None:
    lab = WatermarkHub(MILLRACE_WORKERS__MOST="1")
    source = gray(8)
    async with lab.open():
        publisher = lab.publish(source, **{**TEXT, "isWaterMark": False}, **AT)
        units = list(source.units)
        async with lab.workers.start("gateway.workers.programs.jpeg_worker", "other"):
            lab.switch(True)
            at = await play(publisher, units, until=lambda: len(lab.seen()) > 22)
            outputs = lab.stream.outputs
            assert outputs is not None
            (status,) = outputs.status()
            assert status["state"] == "retrying"
            assert "workers.most" in str(status["error"])
        await play(publisher, units[at:], until=lambda: len(lab.viewer.tracks) == 2 and len(lab.seen()) > 60)
        await lab.end()
    assert marked(pictures(lab.seen())[-1][1]) is not None
    assert grows(lab.seen())


async def test_without_a_free_worker_a_new_stream_waits_instead_of_playing_unmarked() -> None:
    lab = WatermarkHub(MILLRACE_WORKERS__MOST="1")
    source = gray(6)
    async with lab.open():
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        async with lab.workers.start("gateway.workers.programs.jpeg_worker", "other"):
            at = await play(publisher, units, until=lambda: len(lab.original.units) > 60)
            assert not lab.viewer.units
            assert "workers.most" in lab.report()["error"]
        await play(publisher, units[at:], until=lambda: len(lab.seen()) > 15)
        await lab.end()
    assert all(marked(image) is not None for _, image in pictures(lab.seen()))


async def test_an_unavailable_picture_is_reported_and_added_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark_assets, "Backoff", lambda *_: Backoff(0.3, 0.3))
    async with serving_pictures() as (url, server), WatermarkHub().open() as lab:
        server.status = 503
        source = gray(12)
        publisher = lab.publish(source, **TEXT, **AT, isImageWaterMark=True, ImageURL=f"{url}/blue.png?token=secret")
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 20)
        error = lab.report()["error"]
        assert error == "the watermark's picture is not available: 127.0.0.1 answers 503"
        server.status = 200
        at += await play(publisher, units[at:], until=lambda: lab.report().get("error") is None)
        fetched = len(lab.seen())
        await play(publisher, units[at:], until=lambda: len(lab.seen()) > fetched + 30)
        await lab.end()
    shown = [image for _, image in pictures(lab.seen())]
    assert all(marked(image) is not None for image in shown)
    red, _, blue = shown[-1].getpixel((130, 65))  # type: ignore[misc]
    assert blue > 180 > red
    assert server.asked >= 2


async def test_a_picture_is_not_requested_from_private_addresses() -> None:
    async with serving_pictures() as (url, server), WatermarkHub(egress=()).open() as lab:
        source = gray(1)
        publisher = lab.publish(source, **TEXT, **AT, isImageWaterMark=True, ImageURL=f"{url}/blue.png")
        await play(publisher, source.units)
        assert "egress.allow" in lab.report()["error"]
        await lab.end()
    assert server.asked == 0


async def test_the_bitrate_follows_the_source() -> None:
    noisy = sources.source(
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30,noise=alls=20:allf=t", "-t", "8"),
        *("-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-bf", "0", "-b:v", "900k", "-maxrate", "900k"),
        *("-bufsize", "900k", "-pix_fmt", "yuv420p"),
    )
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(noisy, **TEXT, **AT)
        await play(publisher, noisy.units, speed=1)
        await lab.end()
    later = [u for u in lab.seen() if milliseconds(u) >= 3000]  # by then the encoder has found its rate
    kbps = sum(len(u.payload) for u in later[:-1]) * 8 / (milliseconds(later[-1]) - milliseconds(later[0]))
    assert 600 < kbps < 1300
    assert [t.epoch for t in lab.viewer.tracks] in ([0], [0, 1])


async def test_changed_metadata_pass_without_a_break() -> None:
    source = gray(4)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        units = list(source.units)
        at = await play(publisher, units, until=lambda: len(lab.seen()) > 10)
        publisher.set_tracks(source.tracks.video, source.tracks.audio, {"title": "later"})
        await play(publisher, units[at:])
        await lab.end()
    assert [(t.epoch, t.metadata) for t in lab.viewer.tracks] == [(0, {}), (0, {"title": "later"})]
    assert len(lab.seen()) == len(source.of(Kind.VIDEO))


async def test_loss_of_sound_causes_one_discontinuity_and_keeps_the_watermark() -> None:
    source = gray(2)
    async with WatermarkHub().open() as lab:
        publisher = lab.publish(source, **TEXT, **AT)
        await play(publisher, source.units)
        silent = source.shifted(source.end).only(Kind.VIDEO)
        publisher.set_tracks(silent.tracks.video, None, {})
        await play(publisher, silent.units)
        await lab.end()
    tracks = lab.viewer.tracks
    assert [(t.epoch, t.audio is not None) for t in tracks] == [(0, True), (1, False)]
    assert all(marked(image) is not None for _, image in pictures(lab.seen()))


class PictureServer:
    status = 200
    asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.status != 200:
            return web.Response(status=self.status)
        color = {"blue": (0, 0, 255), "green": (0, 255, 0)}[request.match_info["color"]]
        out = io.BytesIO()
        Image.new("RGB", (60, 50), color).save(out, "PNG")
        return web.Response(body=out.getvalue(), content_type="image/png")


@asynccontextmanager
async def serving_pictures() -> AsyncIterator[tuple[str, PictureServer]]:
    server = PictureServer()
    app = web.Application()
    app.router.add_get("/{color}.png", server.answer)
    async with served_app(app) as port:
        yield f"http://127.0.0.1:{port}", server
