"""VLC plays: every protocol gives as many pictures and sounds as the time it was given."""

from collections.abc import Callable
from contextlib import ExitStack

from tests.support.clients import packet_counts, vlc
from tests.support.gateway import Channel
from tests.support.media import FRAMES_PER_SECOND, PLAIN, Film
from tests.support.tools import need

SECONDS = 5


def test_vlc_plays_flv_rtmp_and_hls(live: Callable[[Film], Channel]) -> None:
    need("cvlc", "runuser")
    channel = live(PLAIN)
    with ExitStack() as stack:
        players = {
            url: stack.enter_context(vlc(url, seconds=SECONDS))
            for url in (channel.url("live.flv"), channel.rtmp, channel.url("live.m3u8"))
        }
        for url, (program, recorded) in players.items():
            program.wait(40)
            counts = packet_counts(recorded)
            # A second of start-up; what is counted then is real time.
            assert counts.get("video", 0) >= (SECONDS - 1) * FRAMES_PER_SECOND * 0.9, (
                url,
                counts,
                program.errors[-400:],
            )
            assert counts.get("audio", 0) >= (SECONDS - 1) * 48000 / 1024 * 0.9, (url, counts)
