"""A client that pushes over WebSocket like a page, and frames like those of WebCodecs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gateway.media.track import AccessUnit, Kind, MediaTrack
from gateway.protocols import push
from gateway.protocols.push import AudioConfig, Chunk, Configured, VideoConfig
from tests.support.push_messages import chunk_bytes, config_text
from tests.support.sources import X264, Source, pictures, source, tone
from tests.support.time_outs import at_most

SECONDS = 15.0  # limit of every wait; after it, the test fails
OPUS = ("-c:a", "libopus", "-b:a", "96k", "-ac", "2", "-frame_duration", "20")


@functools.cache
def camera(
    size: str = "320x180", seconds: float = 4, *, gop: int = 30, sound: bool = True, channels: int = 2
) -> Source:
    """The media of a page with camera and microphone: H.264 without B-frames, and Opus."""
    return source(
        *pictures(size),
        *(tone(48000) if sound else ()),
        *("-t", str(seconds), *X264, "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p"),
        *((*OPUS, "-ac", str(channels)) if sound else ()),
        container="matroska",
    )


def config(film: Source, **changes: Any) -> Configured:
    """The first message of a page about a film."""
    video, audio = film.tracks.video, film.tracks.audio
    return Configured(
        **(
            {
                "video": None if video is None else VideoConfig("avc1.42E01F", video.config, 0, 0, 30.0),
                "audio": None if audio is None else _audio(audio),
            }
            | changes
        )
    )


def _audio(track: MediaTrack) -> AudioConfig:
    if track.codec == "opus":
        return AudioConfig("opus", 48000, track.config[9], track.config)
    return AudioConfig("mp4a.40.2", 44100, 2, track.config)


def chunk(unit: AccessUnit, *, shift: int = 0) -> bytes:
    """A unit as a binary message. shift: milliseconds to add."""
    pts = (unit.dts + unit.cts + shift) * 1000
    key = unit.key and unit.track.kind is Kind.VIDEO
    return chunk_bytes(Chunk(unit.track.kind, key, pts, 33_000, unit.payload))


@dataclass
class Page:
    """One connection. texts: messages of the server; code, reason: of its close frame."""

    ws: ClientConnection
    texts: list[str] = field(default_factory=list)
    code: int | None = None
    reason: str = ""
    _listening: asyncio.Task[None] | None = None
    _said: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The received messages of one type."""
        return [said for said in self.said if said["type"] == kind]

    @property
    def error(self) -> dict[str, Any]:
        return self.of("error")[-1]

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            await self.ws.send(message)

    async def configure(self, film: Source, **changes: Any) -> None:
        await self.send(config_text(config(film, **changes)))

    async def film(
        self, film: Source, *, pace: float | None = None, shift: int = 0, units: Iterable[AccessUnit] | None = None
    ) -> None:
        """Sends all units. pace: media seconds per second; None: all at once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for unit in film.units if units is None else units:
            if pace is not None:
                await asyncio.sleep(max(0.0, began + unit.dts / 1000 / pace - loop.time()))
            await self.ws.send(chunk(unit, shift=shift))

    async def wait(self, kind: str) -> dict[str, Any]:
        """Waits for the first message of this type."""
        async with asyncio.timeout(at_most(SECONDS)), self._said:
            await self._said.wait_for(lambda: self.of(kind) or self.code is not None)
        assert self.of(kind), f"no {kind}, but {self.code} {self.reason} {self.texts}"
        return self.of(kind)[0]

    async def closed(self) -> int | None:
        """Waits until the server closes. Returns the close code, or None without a close frame."""
        assert self._listening is not None
        async with asyncio.timeout(at_most(SECONDS)):
            await asyncio.shield(self._listening)
        return self.code

    async def listen(self) -> None:
        try:
            while True:
                message = await self.ws.recv()
                assert isinstance(message, str)
                async with self._said:
                    self.texts.append(message)
                    self._said.notify_all()
        except ConnectionClosed as closed:
            async with self._said:
                if closed.rcvd is not None:
                    self.code, self.reason = closed.rcvd.code, closed.rcvd.reason
                self._said.notify_all()


@contextlib.asynccontextmanager
async def page(url: str, *, frames: bool = True, origin: str | None = None, **options: Any) -> AsyncIterator[Page]:
    """Opens a WebSocket like a page. Raises `InvalidStatus` if the upgrade is refused."""
    subprotocols = [Subprotocol(push.SUBPROTOCOL)] if frames else None
    async with connect(
        url, subprotocols=subprotocols, compression=None, proxy=None, origin=origin, max_size=None, **options
    ) as ws:
        opened = Page(ws)
        opened._listening = asyncio.create_task(opened.listen())
        try:
            yield opened
        finally:
            opened._listening.cancel()
            await asyncio.gather(opened._listening, return_exceptions=True)


async def close_code(url: str, **options: Any) -> int | None:
    """The close code of a push that the server refuses."""
    async with page(url, **options) as refused:
        return await refused.closed()
