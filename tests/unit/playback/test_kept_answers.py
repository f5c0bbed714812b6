"""Playlists and segments that were answered before: all checks apply again, and no answer is out of date."""

from collections import Counter

import pytest

from gateway.channels.names import PULL_HEADER, pull_mark
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputSpec
from gateway.media.errors import InvalidData
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.flv import FlvViewers
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder import LadderPlayback
from gateway.playback.pages import Pages
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.playback.router import LivePlayback, MediaRoutes, PlaybackAccess, PlaybackRouter
from gateway.playback.slugs import NamedChannel, Slugs
from tests.support import builders
from tests.support.builders import FAR, channel
from tests.support.playback import Channels
from tests.support.segmented import WALL, Timetable

SECRETS = SigningSecrets("a-secret")
PLAN = SegmentPlan(2.0, 5, 0.5)
PLAYLISTS = ["live.m3u8", "video/index.m3u8", "audio/index.m3u8"]


class Counting(PlaybackRouter):
    """Counts the answers that were made, not kept."""

    made = 0

    def _stream_file(self, *arguments):
        self.made += 1
        return super()._stream_file(*arguments)


class Rig:
    """A router over a hub with real packagers, and one live stream of 12 s."""

    def __init__(self, names=None, **fields):
        specs = [
            OutputSpec("hls", lambda s: TsPackager(s.name, PLAN, WALL), lambda s: s.channel.flag("isHls")),
            OutputSpec(
                "cmaf",
                lambda s: CmafPackager(s.name, PLAN, WALL, SequenceNumbers(prefix=int(WALL))),
                lambda s: s.channel.flag("isCMAF"),
            ),
        ]
        self.names = names if names is not None else {}
        self.hub, self.viewers = builders.hub(specs), HttpViewers()
        protection = PlaybackProtection(
            auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=30
        )
        routes = MediaRoutes.of(LadderPlayback(self.hub, self.viewers))

        async def read():
            return self.names

        self.slugs = Slugs(read, Tasks("names", lambda name, error: None))
        access = PlaybackAccess(PlayAdmission(channels=Channels(), protection=protection, wait=1), slugs=self.slugs)
        live = LivePlayback(self.hub, routes, FlvViewers(1 << 20), self.viewers)
        self.router = Counting(access, live, Pages(), Health(read))
        self.publisher = builders.publish(self.hub, isHls=True, isCMAF=True, **fields)
        self.units = Timetable(seconds=60).units()
        table = Timetable()
        self.publisher.set_tracks(table.video, table.audio, {})
        self.push(12)

    @property
    def stream(self):
        return self.hub.find("c1")

    def push(self, seconds):
        end = None
        for unit in self.units:
            end = end or unit.wall + seconds
            self.publisher.push(unit, 0.0)
            if unit.wall >= end:
                return

    def ask(self, path, query="", method="GET", **headers):
        answer = self.router(Request(method, path, query, {"host": "a", **headers}, "192.0.2.1"))
        assert isinstance(answer, Response)
        return answer

    def media(self):
        """Returns the paths of a segment of TS and of CMAF."""
        video = self.stream.output("cmaf").manifests.track("video")
        return [f"/c1/{self.stream.output('hls').window[-1].uri}", f"/c1/video/{video.window[-1].uri}"]


@pytest.fixture
async def rig():
    made = Rig()
    await made.slugs.update()
    yield made
    made.viewers.close()


@pytest.mark.parametrize("path", PLAYLISTS)
async def test_a_kept_playlist_is_the_current_one(rig, path):
    first = rig.ask(f"/c1/{path}")
    assert rig.ask(f"/c1/{path}") is first
    assert rig.router.made == 1
    rig.push(4)
    second = rig.ask(f"/c1/{path}")
    assert second.body != first.body
    assert rig.router.made == 2


async def test_units_that_wait_are_packaged_before_a_kept_answer_is_used(rig):
    before = rig.ask("/c1/video/index.m3u8")
    rig.push(0.6)  # fewer units than a batch, but a part
    assert rig.ask("/c1/video/index.m3u8").body != before.body


async def test_kept_segments_serve_any_query_and_leave_with_the_window(rig):
    for path in rig.media():
        first = rig.ask(path)
        assert first.status == 200
        assert rig.ask(path, "token=1") is first
    assert rig.router.made == 2
    paths = rig.media()
    rig.push(44)
    assert [rig.ask(path).status for path in paths] == [404, 404]


@pytest.mark.parametrize("query", ["_HLS_skip=YES", "a=b"])
async def test_a_playlist_for_a_query_is_neither_kept_nor_the_kept_one(rig, query):
    rig.ask("/c1/video/index.m3u8")
    rig.push(24)  # long enough for a delta update
    whole = rig.ask("/c1/video/index.m3u8")
    other = rig.ask("/c1/video/index.m3u8", query)
    assert other.body != whole.body
    assert rig.ask("/c1/video/index.m3u8") is whole


async def test_a_kept_answer_counts_its_viewer(rig):
    path = rig.media()[0]
    rig.ask(path)
    rig.viewers.close()
    assert not rig.stream.viewers.total()
    rig.ask(path)
    assert rig.stream.viewers == Counter(hls=1)
    assert rig.router.made == 1


async def test_the_protection_applies_to_kept_answers():
    rig = Rig(playAuth="sign")
    await rig.slugs.update()
    sign = f"sign={SECRETS.sign('c1', FAR, SignatureUse.PLAY)}"
    path = rig.media()[0]
    assert rig.ask(path, sign).status == 200
    assert rig.ask(path, sign).status == 200
    assert rig.router.made == 1
    assert rig.ask(path).status == 403
    assert rig.ask(path, f"{sign}0").status == 403
    rig.stream.change_channel(channel(isHls=True, isCMAF=True, refererAllow="b.example"))
    assert rig.ask(path, sign, referer="https://a.example/").status == 403
    rig.viewers.close()


async def test_a_kept_answer_ends_with_its_output(rig):
    path = rig.media()[0]
    rig.ask(path)
    rig.stream.change_channel(channel(isHls=False, isCMAF=True))
    assert rig.ask(path).status == 404


async def test_a_packager_that_cannot_continue_keeps_no_answers(rig):
    rig.ask("/c1/live.m3u8")
    rig.stream.output("hls").on_failed(InvalidData("no such codec"))
    assert rig.ask("/c1/live.m3u8").status == 404


async def test_other_methods_and_pulls_do_not_get_a_kept_answer(rig):
    first = rig.ask("/c1/live.m3u8")
    assert rig.ask("/c1/live.m3u8", method="HEAD") is first
    assert rig.ask("/c1/live.m3u8", method="POST").status == 405
    assert rig.ask("/c1/live.m3u8", **{PULL_HEADER: pull_mark("c1")}).status == 508


async def test_a_name_may_pass_to_another_channel():
    rig = Rig(names={"news": NamedChannel("c1", "news")})
    await rig.slugs.update()
    first = rig.ask("/news/live.m3u8")
    assert rig.ask("/news/live.m3u8") is first
    assert rig.router.made == 1
    rig.names = {"news": NamedChannel("c2", "news")}
    rig.slugs.expire()
    await rig.slugs.update()
    answer = rig.router(Request("GET", "/news/live.m3u8", "", {"host": "a"}))
    assert (await answer).status == 404
    rig.viewers.close()


async def test_an_earlier_name_leads_to_the_page_of_the_new_one_and_no_other_text_behind_it():
    rig = Rig(names={"old": NamedChannel("c1", "news")})
    await rig.slugs.update()
    found = {
        path: rig.ask(path)
        for path in ("/old/", "/old@720p/hls.html", "/old@%E2%98%83/", "/old@%E2%98%83/hls.html", "/old@a%20b/")
    }
    assert [answer.headers.get("Location") for answer in found.values()] == [
        *("/news/", "/news@720p/hls.html", None, None, None),
    ]
    for answer in found.values():
        assert answer.head()
    rig.viewers.close()
