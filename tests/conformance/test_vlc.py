"""VLC plays: every protocol gives it the pictures and the sound that were pushed, and none is lost."""

from collections.abc import Callable
from contextlib import ExitStack

from tests.support.clients import recorded, vlc
from tests.support.gateway import Channel
from tests.support.media import PLAIN, Film, judge
from tests.support.tools import need

SECONDS = 4


def test_vlc_plays_flv_rtmp_and_hls(live: Callable[[Film], Channel]) -> None:
    need("cvlc", "runuser")
    channel = live(PLAIN)
    with ExitStack() as stack:
        urls = (channel.url("live.flv"), channel.rtmp, channel.url("live.m3u8"))
        for player in [stack.enter_context(vlc(url)) for url in urls]:
            judge(recorded(player, SECONDS), PLAIN, least=SECONDS - 1)
