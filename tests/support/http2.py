"""An HTTP/2 client that reads only what a test asks for, over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from tests.support.time_outs import at_most

SECONDS = 10  # limit of every wait; after it, the test fails
AUTHORITY = "live.example.com"


@dataclass
class Answer:
    """What has arrived on one stream. error: the code of its reset."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    error: ErrorCodes | int | None = None

    @property
    def text(self) -> str:
        return self.body.decode()


class Http2Client:
    """One connection. window: bytes that the server may send on a stream before the test gives it more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int | None) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
        self.answers: dict[int, Answer] = {}
        self.goaway: ErrorCodes | None = None
        self.at_eof = False
        self._window = window
        self._received = b""

    async def start(self) -> None:
        if self._window is not None:
            values = {SettingCodes.INITIAL_WINDOW_SIZE: self._window, SettingCodes.ENABLE_PUSH: 0}
            self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**30)
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def ask(
        self,
        path: str = "/",
        method: str = "GET",
        *,
        more: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        authority: str = AUTHORITY,
    ) -> int:
        """Sends a request. Returns its stream."""
        fields = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *more]
        return await self.send_head(fields, body)

    async def send_head(
        self, fields: Sequence[tuple[Any, Any]], body: bytes | None = None, *, ended: bool = True
    ) -> int:
        """Sends any fields, and a body. Returns their stream. ended: whether the body is whole."""
        id = self.h2.get_next_available_stream_id()
        self.answers[id] = Answer()
        self.h2.send_headers(id, fields, end_stream=body is None)
        if body is not None:
            self.h2.send_data(id, body, end_stream=ended)
        await self.flush()
        return id

    async def get(self, path: str = "/", method: str = "GET", **options: Any) -> Answer:
        """Sends a request and reads its whole answer."""
        return await self.whole(await self.ask(path, method, **options))

    async def whole(self, id: int) -> Answer:
        """Reads until the answer is whole, or its stream is reset."""
        answer = self.answers[id]
        await self.until(lambda: answer.ended or answer.error is not None)
        return answer

    async def until(self, condition: Any) -> None:
        """Reads until a condition holds. Fails at the end of the connection."""
        async with asyncio.timeout(at_most(SECONDS)):
            while not condition():
                assert not self.at_eof, "the server has closed the connection"
                await self.read()

    async def closed(self) -> None:
        """Reads until the server closes the connection."""
        async with asyncio.timeout(at_most(SECONDS)):
            while not self.at_eof:
                await self.read()

    async def read(self) -> None:
        """Handles the next bytes of the server."""
        try:
            data = await self.reader.read(65_536)
        except OSError:
            data = b""
        if not data:
            self.at_eof = True
            return
        self._received += data
        while len(self._received) >= 9 and len(self._received) >= (
            end := 9 + int.from_bytes(self._received[:3], "big")
        ):
            frame, self._received = self._received[:end], self._received[end:]
            if frame[3] == GoAwayFrame.type:  # h2 reads nothing behind it; running streams go on (RFC 9113 §6.8)
                self.goaway = ErrorCodes(int.from_bytes(frame[13:17], "big"))
                continue
            for event in self.h2.receive_data(frame):
                self._take(event)
        with suppress(OSError):  # the server has closed the connection
            await self.flush()

    def _take(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            fields = [(bytes(n).decode(), bytes(v).decode("latin-1")) for n, v in event.headers or ()]
            answer.headers = dict(fields)
            assert len(answer.headers) == len(fields), f"a header stands there twice: {fields}"
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, DataReceived):
            answer.body += event.data or b""
            if self._window is None:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.error = event.error_code


@asynccontextmanager
async def http2_client(port: int, ca: Path, window: int | None = None) -> AsyncIterator[Http2Client]:
    """Connects to a server of this host whose certificate is for localhost."""
    tls = ssl.create_default_context(cafile=ca)
    tls.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    client = Http2Client(reader, writer, window)
    try:
        await client.start()
        yield client
    finally:
        writer.transport.abort()
