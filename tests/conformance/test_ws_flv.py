"""A WebSocket client (the websockets library) receives FLV that ffmpeg reads as the pushed film."""

import time
from collections.abc import Callable
from pathlib import Path

from websockets.sync.client import connect

from tests.support.clients import pull, take_of
from tests.support.gateway import Channel
from tests.support.media import BFRAMES, Film, judge

SECONDS = 3


def test_ws_flv_contains_the_pushed_film(live: Callable[[Film], Channel], tmp_path: Path) -> None:
    channel = live(BFRAMES)
    recorded = tmp_path / "recorded.flv"
    address = channel.url("live.flv").replace("http://", "ws://")
    with connect(address, max_size=None) as socket, recorded.open("wb") as file:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            message = socket.recv(timeout=10)
            assert isinstance(message, bytes)
            file.write(message)
    with pull(str(recorded), seconds=None) as reader:
        judge(take_of(reader), BFRAMES, cut=True)
