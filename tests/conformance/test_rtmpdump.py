"""rtmpdump, the oldest RTMP client, records the pushed frames."""

from collections.abc import Callable
from pathlib import Path

from tests.support.clients import pull, rtmpdump, take_of, until
from tests.support.gateway import Channel
from tests.support.media import BFRAMES, Film, judge
from tests.support.tools import need


def test_rtmpdump_records_the_pushed_frames(live: Callable[[Film], Channel], tmp_path: Path) -> None:
    need("rtmpdump")
    channel = live(BFRAMES)
    recorded = tmp_path / "recorded.flv"
    with rtmpdump(channel.rtmp, recorded) as program:
        until(lambda: recorded.exists() and recorded.stat().st_size > 300_000, "rtmpdump has recorded some seconds")
        program.stop()
    with pull(str(recorded), seconds=None) as reader:
        take = take_of(reader)
    judge(take, BFRAMES, cut=True)
