"""An export stops when its client reads nothing. Too many clips of a channel give 429 with Retry-After."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from gateway.api.clips import CLIPS
from gateway.api.context import RequestLimits
from gateway.formats.mp4.movie import MovieHead
from gateway.outputs.clips.clip_service import Movie, StoredClip
from gateway.ports.errors import TooManyRequests
from tests.support.admin import TOKEN, admin
from tests.support.builders import FAR
from tests.support.http import SECONDS
from tests.support.time_outs import at_most
from tests.support.waiting import until

PIECE = bytes(256 * 1024)
PIECES = 200


class Clips:
    """A ClipService with one large export. It makes no clips."""

    longest_clip = longest_export = 3600.0

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def export(self, *args: Any) -> AsyncIterator[Movie]:
        try:
            yield Movie(MovieHead(b"", len(PIECE) * PIECES, 60.0), io.BytesIO(), 12.5)
        finally:
            self.ended.set()

    async def read(self, movie: Movie) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            self.sent += 1
            yield PIECE

    async def make_clip(self, *args: Any) -> StoredClip:
        raise TooManyRequests("at most 6 clips", 17)


async def test_too_many_clips_are_429_with_retry_after(tmp_path: Path) -> None:
    async with admin(tmp_path, services={CLIPS: Clips()}) as api:
        await api.store.add({"id": "c1", "key": f"{FAR}-x", "outdate": FAR})
        answer = await api.call("POST", "/videostream/c1/clips", {"from": 1, "to": 60})
        assert (answer.status, answer.headers["Retry-After"]) == (429, "17")
        assert await answer.json() == {"error": "at most 6 clips"}


async def test_an_export_is_aborted_and_logged_if_its_client_reads_nothing(tmp_path: Path) -> None:
    clips = Clips()
    limits = RequestLimits(body=256_000, item=64_000, request=10, stall=0.05)
    async with admin(tmp_path, services={CLIPS: clips}, limits=limits) as api:
        await api.store.add({"id": "c1", "key": f"{FAR}-x", "outdate": FAR})
        with socket.socket() as client, capture_logs() as log:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", api.client.port))
            head = (
                f"GET /videostream/c1/export?from=1&to=60 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            )
            await loop.sock_sendall(client, head.encode())
            async with asyncio.timeout(at_most(SECONDS)):
                await clips.ended.wait()
            await until(lambda: log)
    assert clips.sent < PIECES
    (line,) = [entry for entry in log if entry["event"] == "an export was cut off"]
    assert (line["channel"], line["peer"]) == ("c1", "127.0.0.1")
    assert "read less than 262144 bytes in 0.05 s" in line["reason"]
