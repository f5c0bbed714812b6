"""Pushes whose pictures have numbers, and what viewers and recordings got of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.rtmp import AAC_HEADER, AUDIO, AVC_HEADER, VIDEO, Peer, connected, message, sound

MARK = b"PICTURE:"
_NUMBER = re.compile(MARK + rb"(\d{8})")
_PLACE = 10  # of the mark in the body of a message
SOUND_MS = 1024 * 1000 / 44100


def picture(number: int, *, key: bool, size: int) -> bytes:
    """The body of a video message with one NAL unit of `size` bytes that names its number."""
    nal = ((b"\x65" if key else b"\x41") + MARK + b"%08d" % number).ljust(size, b"x")
    return (b"\x17" if key else b"\x27") + b"\x01\0\0\0" + len(nal).to_bytes(4, "big") + nal


def numbers(data: bytes) -> set[int]:
    """The numbers of all pictures in these bytes."""
    return {int(found) for found in _NUMBER.findall(data)}


def recorded(folder: Path) -> tuple[int, set[int]]:
    """The number of recorded files below a folder, and the numbers of their pictures."""
    files = [path for path in folder.rglob("*.mp4") if ".unfinished" not in path.parts]
    return len(files), set().union(*(numbers(path.read_bytes()) for path in files))


@dataclass
class Push:
    """An accepted push. All times are of the monotonic clock.

    connecting: when connect() was called. first: the number of its first picture. sent: when that was sent.
    """

    connecting: float
    accepted: float
    first: int
    sent: float = 0.0


@dataclass
class Encoder:
    """Publishes numbered pictures until it is stopped, and connects again at once when its connection ends.

    port, host: of the gateway; a cut may change the port. tls: the push is RTMPS. pushes: those that were accepted.
    lost: when a connection ended that this bench did not cut. refused: codes of the answers to refused pushes, with
    their times.
    """

    port: int
    key: str
    fps: int = 25
    size: int = 1500
    gop: int = 25
    with_sound: bool = False
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    number: int = 0
    pushes: list[Push] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)
    late: float = 0.0  # seconds; the greatest delay of a picture behind its time
    retry: float = 0.5  # seconds
    ending: bool = False
    _cut: asyncio.Future[bool] | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        while not self.ending:
            connecting = time.monotonic()
            try:
                async with connected(self.port, host=self.host, tls=self.tls) as peer:
                    answer = await peer.publish(self.key)
                    if answer.code == "NetStream.Publish.Start":
                        await self._push(peer, connecting)
                        continue
                self.refused.append((time.monotonic(), answer.code or answer.name))
            except (OSError, EOFError, TimeoutError) as error:
                self.refused.append((time.monotonic(), type(error).__name__))
            await asyncio.sleep(self.retry)

    async def pushed(self, count: int) -> Push:
        """Waits for the first picture of the push with this number (from 0)."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.pushes) > count and self.pushes[count].sent)
            return self.pushes[count]

    async def cut(self, *, reset: bool, port: int = 0) -> Push:
        """Ends the connection between two pictures, and returns the next push. reset: loses what was not read yet."""
        assert self._cut is not None, "it pushes"
        count, self.port = len(self.pushes), port or self.port
        if not self._cut.done():
            self._cut.set_result(reset)
        return await self.pushed(count)

    def end(self) -> None:
        """Lets `run` return after the present picture."""
        self.ending = True
        if self._cut is not None and not self._cut.done():
            self._cut.set_result(False)

    async def _push(self, peer: Peer, connecting: float) -> None:
        """Sends until a cut, or until the server closes. The next picture is a key frame."""
        cut = self._cut = asyncio.get_running_loop().create_future()
        push = Push(connecting, time.monotonic(), self.number)
        self.pushes.append(push)
        hearing = asyncio.create_task(_ended(peer))
        try:
            await peer.chunk_size(65536)
            await peer.body(VIDEO, AVC_HEADER)
            if self.with_sound:
                await peer.body(AUDIO, AAC_HEADER)
            while not hearing.done() and not cut.done():
                await self._picture(peer, push)
                due = push.sent + (self.number - push.first) / self.fps
                self.late = max(self.late, time.monotonic() - due)
                await asyncio.wait(
                    [hearing, cut], timeout=max(0.0, due - time.monotonic()), return_when="FIRST_COMPLETED"
                )
            if not cut.done():
                self.lost.append(time.monotonic())
            elif not cut.result():  # the server reads everything before it sees the end
                peer.writer.write_eof()
                await asyncio.wait([hearing], timeout=2)
        finally:
            hearing.cancel()

    async def _picture(self, peer: Peer, push: Push) -> None:
        """Sends the next picture, and the sound until the one after it."""
        n, self.number = self.number - push.first, self.number + 1
        body = picture(self.number - 1, key=n % self.gop == 0, size=self.size)
        sending = time.monotonic()
        peer.writer.write(message(VIDEO, body, time=n * 1000 // self.fps, csid=5, stream=1, size=peer.size))
        if self.with_sound:
            ends = [int(at * 1000 / self.fps / SOUND_MS) for at in (n, n + 1)]
            for s in range(*ends):
                at = int(s * SOUND_MS)
                peer.writer.write(message(AUDIO, sound(s), time=at, csid=4, stream=1, size=peer.size))
        with contextlib.suppress(ConnectionError):
            await peer.writer.drain()
        if not push.sent:
            async with self._changed:
                push.sent = sending
                self._changed.notify_all()


async def dropped(writer: asyncio.StreamWriter) -> None:
    """Resets a connection, and returns when it has ended."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _ended(peer: Peer) -> None:
    """Returns once the server has closed."""
    with contextlib.suppress(EOFError):
        while True:
            await peer.read(timeout=86400)


@contextlib.asynccontextmanager
async def pushing(encoders: list[Encoder], timeout: float = 60) -> AsyncIterator[None]:
    """Runs encoders; all of them push when the block begins. Raises TimeoutError."""
    tasks = [asyncio.create_task(encoder.run()) for encoder in encoders]
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(*(encoder.pushed(0) for encoder in encoders))
        yield
        for encoder in encoders:
            encoder.end()
        await asyncio.wait(tasks, timeout=10)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class FlvPictures:
    """Reads an answer of HTTP/1.0 with FLV. status: of the answer; 0 before it. seen: gets each picture's number."""

    def __init__(self, seen: Callable[[int], None]) -> None:
        self.status = 0
        self._seen = seen
        self._rest = b""
        self._began = False

    def receive(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        if not self._began:
            head, _, body = data.partition(b"\r\n\r\n")
            if len(body) < 13:  # the header of FLV, and the size before the first tag
                self._rest = data
                return
            self.status, self._began, at = int(head.split(b" ", 2)[1]), True, len(head) + 17
        self._rest = data[self._tags(data, at) :] if self.status == 200 else b""

    def _tags(self, data: bytes, at: int) -> int:
        """Returns the end of the last whole tag."""
        end = len(data)
        while at + 15 <= end:
            following = at + 15 + (data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3])
            if following > end:
                break
            if data[at] == VIDEO and data[at + 11 + _PLACE : at + 19 + _PLACE] == MARK:
                self._seen(int(data[at + 19 + _PLACE : at + 27 + _PLACE]))
            at = following
        return at
