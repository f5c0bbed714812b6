"""Clients of RTSP: programs that push and play, and a client whose requests a test writes."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.protocols.rtsp.messages import Interleaved, RtspReader, RtspResponse, request
from tests.support.clients import Program, pull
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import lacking

# The settings of a gateway with RTSP.
OPEN = {"MILLRACE_RTSP__PORT": "0", "MILLRACE_RTSP__HOST": "127.0.0.1"}


def rtsp_push(
    film: Film, url: str, transport: str = "tcp", *, loop: bool = False, options: Sequence[str] = ()
) -> Program:
    """ffmpeg that publishes a film in real time. transport: tcp or udp. options: instead of `-c copy`."""
    again = ["-stream_loop", "-1"] if loop else []
    command = ["ffmpeg", "-nostdin", "-v", "error", "-re", *again, "-i", str(film.path())]
    return Program([*command, *(options or ("-c", "copy")), "-f", "rtsp", "-rtsp_transport", transport, url])


def rtsp_pull(url: str, transport: str = "tcp", *, seconds: float = 3) -> Program:
    """ffmpeg that plays `seconds` of a URL. transport: tcp or udp."""
    return pull(url, seconds=seconds, before=("-rtsp_transport", transport))


def gst_rtsp_push(film: Film, url: str, transport: str = "tcp") -> Program:
    """GStreamer that publishes an FLV film in real time through rtspclientsink, with its AAC in LATM."""
    if subprocess.run(["gst-inspect-1.0", "--exists", "rtspclientsink"], check=False).returncode:
        lacking("not installed: rtspclientsink of GStreamer")
    pipeline = (
        f"filesrc location={film.path()} ! flvdemux name=in in.video ! h264parse ! queue ! out. "
        f'in.audio ! aacparse ! queue ! out. rtspclientsink name=out location="{url}" protocols={transport}'
    )
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def gst_rtsp_play(url: str, transport: str = "tcp") -> Program:
    """GStreamer that plays through rtspsrc and prints one hash per picture."""
    pipeline = (
        f'rtspsrc location="{url}" protocols={transport} latency=2000 ! application/x-rtp,media=video ! rtph264depay '
        "! h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=I420 ! checksumsink hash=md5 sync=false"
    )
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


@dataclass
class RtspClient:
    """A connection. packets: those that came on channels, in order."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    url: str
    session: str = ""
    packets: list[Interleaved] = field(default_factory=list)
    _messages: RtspReader = field(default_factory=RtspReader)
    _answers: list[RtspResponse] = field(default_factory=list)
    _number: int = 0

    async def ask(
        self, method: str, url: str = "", headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> RtspResponse:
        """Sends a request, and returns its answer. url: "": that of the client; a suffix is appended to it."""
        self.send(method, url, headers, body)
        return await self.answer()

    def send(self, method: str, url: str = "", headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Sends a request."""
        self._number += 1
        more = {"Session": self.session} if self.session else {}
        more |= {"Content-Length": str(len(body))} if body else {}
        target = url if "://" in url or url == "*" else self.url + url
        self.writer.write(request(method, target, self._number, more | dict(headers or {})) + body)

    async def answer(self) -> RtspResponse:
        """Returns the next answer. Raises EOFError if the server closes the connection."""
        while not self._answers:
            await self.receive()
        found = self._answers.pop(0)
        if found.status == 200 and "session" in found.headers:
            self.session = found.headers["session"].partition(";")[0]
        return found

    async def packet(self, channel: int) -> bytes:
        """Returns the next packet of a channel."""
        while True:
            for index, packet in enumerate(self.packets):
                if packet.channel == channel:
                    del self.packets[index]
                    return packet.payload
            await self.receive()

    async def closed(self) -> bool:
        """Waits until the server has closed the connection."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                await self.receive()
        return True

    async def receive(self) -> None:
        """Reads what has come. Raises EOFError if the server has closed the connection."""
        data = await asyncio.wait_for(self.reader.read(65_536), at_most(20))
        if not data:
            raise EOFError
        for item in self._messages.receive(data):
            if isinstance(item, Interleaved):
                self.packets.append(item)
            elif isinstance(item, RtspResponse):
                self._answers.append(item)

    async def play(self, *tracks: int) -> RtspResponse:
        """Describes, sets up tracks on the connection, and plays. Returns the first answer that is an error."""
        described = await self.ask("DESCRIBE")
        if described.status != 200:
            return described
        for track in tracks or (0,):
            channels = f"{2 * track}-{2 * track + 1}"
            header = {"Transport": f"RTP/AVP/TCP;unicast;interleaved={channels}"}
            answer = await self.ask("SETUP", f"/trackID={track}", header)
            if answer.status != 200:
                return answer
        return await self.ask("PLAY")


@contextlib.asynccontextmanager
async def rtsp_client(
    port: int, path: str, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RtspClient]:
    """A client that is connected. path: of its address, with the query."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), ssl=tls)
    try:
        yield RtspClient(reader, writer, f"rtsp{'s' if tls else ''}://127.0.0.1:{port}/{path}")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
