"""Reports of viewers: only for live streams, from permitted viewers, in small amounts; and CMCD of requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from gateway.channels.stream_key import SignatureUse
from gateway.diagnosis import experience as module
from gateway.diagnosis.experience import Experience
from gateway.lib.metrics import Metrics
from gateway.live.sink import EndReason
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.reports import RequestReports, ViewerReports
from tests.support.builders import FAR, channel, stream
from tests.support.clock import Clock
from tests.support.http import Listener, Reply, request
from tests.support.playback import SECRETS, playing

LINE = b'bsa=(1),bsda=(400),ltc=900,millrace-p=flv,millrace-h=720,msd=700,sid="one",v=2'


class Lab:
    """The receivers of the reports."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics = Metrics("1")
        self.experience = Experience(self.metrics, clock)
        self.reports = ViewerReports(self.experience, self.metrics.viewer_reports, self.is_held)

    def viewers(self, clock: Clock | None = None) -> HttpViewers:
        reports = RequestReports(self.experience, self.metrics.viewer_reports)
        return HttpViewers(reports=reports) if clock is None else HttpViewers(reports=reports, clock=clock)

    async def is_held(self, name: str) -> bool:
        return name == "c9"

    def counted(self) -> dict[str, float]:
        return {labels[0]: count for labels, count in self.metrics.viewer_reports.values.items()}


async def post(listener: Listener, target: str, body: bytes = LINE) -> Reply:
    async with listener.connect() as wire:
        return await wire.post(target, body)


async def test_a_report_is_counted_for_its_channel():
    lab = Lab()
    async with playing(reports=lab.reports) as server:
        server.live()
        assert (await post(server.listener, "/c1/report")).status == 204
        assert (await post(server.listener, "/c1/report", LINE.replace(b"one", b"two") + b"\n" + LINE)).status == 204
        totals = lab.experience.of("c1")["flv"]
        assert (totals.players, totals.stalls) == (2, 2)
        assert lab.counted() == {"page": 3}
        assert '"reports": true' in (await server.listener.get("/c1/status.json")).text


async def test_the_path_for_reports_accepts_only_post_and_options():
    async with playing(reports=Lab().reports) as server:
        preflight = await server.listener.get("/c1/report", "OPTIONS")
        assert preflight.headers["access-control-allow-methods"] == "OPTIONS, POST"
        refused = await server.listener.get("/c1/report", "PATCH")
        assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS, POST")


async def test_a_report_after_the_end_of_a_stream_is_accepted_and_not_read():
    lab = Lab()
    async with playing(channel("idle"), channel("c1"), channel("c9"), reports=lab.reports) as server:
        for name in ("idle", "nobody"):
            assert (await post(server.listener, f"/{name}/report")).status == 404
        assert len(lab.experience) == 0
        server.live()
        await post(server.listener, "/c1/report")
        server.hub.end("c1", EndReason.KICKED)
        reply = await post(server.listener, "/c1/report", LINE.replace(b"one", b"two"))
        assert reply.status == 204, "the last report of a page must be no error in its console"
        assert len(lab.experience) == 1
        assert (await post(server.listener, "/c9/report")).status == 204, "another node holds it"
        assert len(lab.experience) == 2


async def test_a_protected_channel_accepts_reports_only_with_a_play_sign():
    lab = Lab()
    async with playing(channel("c9", playAuth="sign"), reports=lab.reports) as server:
        server.live(playAuth="sign")
        for name in ("c1", "c9"):
            sign = SECRETS.sign(name, FAR, SignatureUse.PLAY)
            assert (await post(server.listener, f"/{name}/report")).status == 403
            assert (await post(server.listener, f"/{name}/report?sign={sign}x")).status == 403
            assert (await post(server.listener, f"/{name}/report?sign={sign}")).status == 204


@pytest.mark.parametrize("body", [b"", b"hello", b"\xff\xfe", b'sid=""', b"{}"])
async def test_an_invalid_report_is_refused(body: bytes):
    lab = Lab()
    async with playing(reports=lab.reports) as server:
        server.live()
        assert (await post(server.listener, "/c1/report", body)).status == 400
        assert lab.counted() == {"malformed": 1}


async def test_a_report_of_more_than_a_kilobyte_is_refused():
    lab = Lab()
    async with playing(reports=lab.reports) as server:
        server.live()
        assert (await post(server.listener, "/c1/report", b"x" * 1025)).status == 413
        assert lab.counted() == {}


async def test_the_reports_of_an_address_per_minute_are_limited(monkeypatch: pytest.MonkeyPatch):
    """The limit also counts several lines of one request, and CMCD of requests for media."""
    monkeypatch.setattr(module, "PER_MINUTE", 3)
    lab = Lab(Clock(100.0))
    async with playing(reports=lab.reports) as server:
        server.live()
        replies = [await post(server.listener, "/c1/report", body) for body in (LINE, b"\n".join([LINE] * 3), LINE)]
        assert [reply.status for reply in replies] == [204, 204, 429]
        assert replies[-1].headers["retry-after"] == "1"
        assert lab.counted() == {"page": 3, "limited": 2}
    request_reports = RequestReports(lab.experience, lab.metrics.viewer_reports)
    for n, peer in enumerate(("127.0.0.1", "192.0.2.1")):
        request_reports.read(request(cmcd(f'sid="{n}"'), peer=peer), "c1", "hls", 1)
    assert lab.counted() == {"page": 3, "limited": 3, "request": 1}


async def test_an_unknown_protocol_counts_as_other():
    lab = Lab()
    async with playing(reports=lab.reports) as server:
        server.live()
        await post(server.listener, "/c1/report", b'sid="a",sf=d')
        await post(server.listener, "/c1/report", b'sid="b",millrace-p=invented,v=2')
        assert set(lab.experience.of("c1")) == {"dash", "other"}


async def test_reports_can_be_turned_off():
    async with playing() as server:
        server.live()
        assert (await post(server.listener, "/c1/report")).status == 405
        assert '"reports": false' in (await server.listener.get("/c1/status.json")).text


# ---- CMCD of requests ----


def cmcd(text: str) -> str:
    return f"/c1/live.m3u8?sign=a&CMCD={quote(text)}"


async def test_reports_in_requests_of_players_are_read_by_protocol():
    lab, watched = Lab(), stream()
    viewers = lab.viewers()
    viewers.record(request(cmcd('br=3000,bs,sf=h,sid="a"')), watched, "hls", media=True)
    viewers.record(request(cmcd('br=3000,sf=d,sid="b"'), user_agent="2"), watched, "cmaf", media=True)
    with_headers = request("/c1/1.m4s", cmcd_session='sid="c"', cmcd_status="bs")
    viewers.record(with_headers, watched, "cmaf", media=True)
    viewers.record(request("/c1/1.ts"), watched, "hls", media=True)
    found = lab.experience.of("c1")
    assert {name: totals.stalls for name, totals in found.items()} == {"hls": 1, "dash": 0, "cmaf": 1}
    viewers.close()


async def test_in_a_long_session_every_tenth_request_and_each_stall_is_read():
    lab, watched = Lab(), stream()
    viewers = lab.viewers()
    for _ in range(90):
        viewers.record(request(cmcd('br=3000,sf=h,sid="a"')), watched, "hls", media=True)
    assert lab.counted() == {"request": 45}
    viewers.record(request(cmcd('br=3000,bs,sf=h,sid="a"')), watched, "hls", media=True)
    assert lab.experience.of("c1")["hls"].stalls == 1
    viewers.close()


async def test_reports_begin_with_media_and_startup_time_with_the_first_request():
    clock = Clock(100.0)
    lab, watched = Lab(clock), stream()
    viewers = lab.viewers(clock)
    for _ in range(3):
        viewers.record(request(cmcd('sf=h,sid="a",su')), watched, "hls", media=False)
        clock.now += 0.4
    assert lab.counted() == {}
    viewers.record(request(cmcd('sf=h,sid="a",su')), watched, "hls", media=True)
    clock.now += 0.2
    viewers.record(request(cmcd('sf=h,sid="a"')), watched, "hls", media=True)
    found = lab.experience.of("c1")["hls"]
    assert found.players == 1
    assert 1.0 <= (found.startup.quantile(0.5) or 0) <= 1.5
    viewers.close()
