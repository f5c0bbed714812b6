"""The limit of the bit rate of a push: a fault first, then the end, and a refusal with its reason."""

import contextlib

from tests.support.clients import pull, push, so_far, until
from tests.support.gateway import http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("bit-rate")
gateway = shared_gateway("ffmpeg", films=[FILM])


def test_a_push_far_above_its_limit_ends_and_others_go_on(gateway) -> None:
    limited, free = gateway.channel(maxKbps="200"), gateway.channel()
    codes = set()

    def ended() -> bool:
        codes.update(fault["code"] for fault in limited.session()["health"])
        return not encoder.running

    with push(FILM, free.push) as other, push(FILM, limited.push) as encoder:
        until(ended, "the push ends", 30)
        assert "bitrate_high" in codes
        assert limited.session()["state"] == "idle"
        with push(FILM, limited.push) as again:
            until(lambda: not again.running, "the next push is refused")
        assert "above the limit of 200 kbit/s" in again.errors
        assert other.running
    limited.gateway.api("PUT", f"/videostream/{limited.id}", {"maxKbps": "0"})
    with push(FILM, limited.push):
        limited.wait_live()


def test_viewers_above_the_bandwidth_of_a_channel_are_asked_to_come_later(gateway) -> None:
    limited, free = gateway.channel(maxViewerMbps="1.2"), gateway.channel()
    with contextlib.ExitStack() as stack:
        for channel in (limited, free):
            stack.enter_context(push(FILM, channel.push))
        limited.wait_playable("live.m3u8", "status.json")
        until(lambda: limited.session()["bitrate"] > 300_000, "its bit rate is known")
        viewer = stack.enter_context(pull(limited.url("live.flv"), seconds=None))
        until(lambda: so_far(viewer).video, "the first viewer sees it")
        answers = [http("GET", limited.url("live.m3u8"), headers={"User-Agent": f"p{i}"}) for i in range(6)]
        assert [answer.status for answer in answers][-1] == 503
        assert int(answers[-1].headers["retry-after"]) > 0
        assert http("GET", limited.url("live.flv")).status == 503
        assert http("GET", limited.url("live.m3u8"), headers={"User-Agent": "p0"}).status == answers[0].status
        with pull(limited.rtmp, seconds=1) as refused:
            until(lambda: not refused.running, "RTMP is refused")
        assert not so_far(refused).video
        seen = len(so_far(viewer).video)
        until(lambda: len(so_far(viewer).video) > seen + 30, "the first viewer goes on")
        free.wait_playable("live.m3u8")
