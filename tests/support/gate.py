"""A TCP proxy in front of a double, with which a test simulates outages of a service."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Gate:
    """Use as `async with`. It is open at first, and its address is constant. to: the URL behind it."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self._to = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._asks = asyncio.Event()
        self._answers = asyncio.Event()
        self._passing: dict[asyncio.StreamWriter, asyncio.StreamWriter | None] = {}
        self.late = 0.0  # seconds by which each piece of data is delayed, in both directions

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def open(self) -> None:
        """Lets everything pass, also the bytes that waited."""
        self._asks.set()
        self._answers.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Resets connections and refuses new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for ends in self._passing.items():
            for end in ends:
                if end is not None:
                    end.transport.abort()
        self._asks.set()  # delayed bytes have no destination any more
        self._answers.set()
        while self._passing:
            await asyncio.sleep(0)

    def hush(self, *, answers: bool = False) -> None:
        """Accepts and keeps connections but forwards nothing. answers: blocks only the answers."""
        if not answers:
            self._asks.clear()
        self._answers.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing[writer] = None
        try:
            there, back = await asyncio.open_connection(*self._to)
            self._passing[writer] = back
            await asyncio.gather(self._pipe(reader, back, self._asks), self._pipe(there, writer, self._answers))
        except OSError:
            writer.transport.abort()
        finally:
            del self._passing[writer]

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await passes.wait()
                if self.late:
                    await asyncio.sleep(self.late)
                writer.write(data)
                await writer.drain()
        writer.close()
