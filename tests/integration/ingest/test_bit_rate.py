"""The limit of the bit rate of a push: a fault first, then the end, and a refusal with its reason."""

import contextlib

import pytest

from tests.support.clients import pull, push, so_far, until
from tests.support.gateway import http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("bit-rate")
gateway = shared_gateway("ffmpeg", films=[FILM])


@pytest.mark.nightly
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
    limited, free = gateway.channel(), gateway.channel()
    with contextlib.ExitStack() as stack:
        for channel in (limited, free):
            stack.enter_context(push(FILM, channel.push))
        limited.wait_playable("live.m3u8")
        bitrate = until(lambda: limited.session().get("bitrate"), "its bit rate is known")
        viewers = [stack.enter_context(pull(limited.url("live.flv"), seconds=None)) for _ in range(2)]
        until(lambda: all(so_far(viewer).video for viewer in viewers), "two viewers see it")
        gateway.api("PUT", f"/videostream/{limited.id}", {"maxViewerMbps": str(2.5 * bitrate / 1e6)})
        new = {"User-Agent": "a new player"}
        until(lambda: http("GET", limited.url("live.m3u8"), headers=new).status == 503, "HLS is refused")
        refused = http("GET", limited.url("live.flv"))
        assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
        with pull(limited.rtmp, seconds=1) as player:
            until(lambda: not player.running, "RTMP is refused")
        assert not so_far(player).video
        seen = [len(so_far(viewer).video) for viewer in viewers]
        until(lambda: all(len(so_far(v).video) > n + 30 for v, n in zip(viewers, seen, strict=True)), "the two go on")
        free.wait_playable("live.m3u8")
