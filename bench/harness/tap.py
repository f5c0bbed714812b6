"""A tap between two nodes: passes bytes on, and counts what is asked, from outside of both."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from types import TracebackType
from typing import Self

REQUEST = re.compile(rb"(?:GET|HEAD) (\S+) HTTP/1\.1\r\n")


class Tap:
    """Listens on `port` and connects to `behind` for each connection. asked: requests by target.

    A head is expected in one piece, as the nodes send theirs. Not for measuring CPU or time: it costs both.
    """

    def __init__(self) -> None:
        self.port = 0
        self.behind = 0
        self.asked: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._open = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._open.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096))
        self.port = server.sockets[0].getsockname()[1]
        self._open.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there = await asyncio.open_connection("127.0.0.1", self.behind)
            back = asyncio.ensure_future(self._pass(there[0], writer, False))
            try:
                await self._pass(reader, there[1], True)
            finally:
                there[1].close()
                await asyncio.gather(back, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                if forth:
                    self.asked.update(target.decode("latin-1") for target in REQUEST.findall(data))
                writer.write(data)
                await writer.drain()
        writer.close()
