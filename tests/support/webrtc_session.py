"""A WHIP or WHEP session from the offer to the end, with the client of `tests.support.webrtc`."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, ClassVar
from urllib.parse import urljoin

import aiohttp

from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from tests.support.elementary import elementary
from tests.support.rtp_sender import RtpSender
from tests.support.time_outs import at_most
from tests.support.webrtc import Client, NetworkClient

SOUND, PICTURES = 111, 96  # payload types
_VIDEO = {
    "H264": "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f\r\n",
    "H265": "",
}


def offer(client: Client, direction: str, codec: str = "H264") -> str:
    """The SDP of one audio and one video track."""
    transport = (
        f"c=IN IP4 0.0.0.0\r\na={direction}\r\na=rtcp-mux\r\na=setup:actpass\r\na=ice-ufrag:{client.ufrag}\r\n"
        f"a=ice-pwd:{client.password}\r\na=fingerprint:{' '.join(client.fingerprint)}\r\n"
    )
    return (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
        f"m=audio 9 UDP/TLS/RTP/SAVPF {SOUND}\r\n{transport}a=mid:0\r\na=rtpmap:{SOUND} opus/48000/2\r\n"
        f"m=video 9 UDP/TLS/RTP/SAVPF {PICTURES}\r\n{transport}a=mid:1\r\na=rtpmap:{PICTURES} {codec}/90000\r\n"
        f"{_VIDEO[codec]}a=rtcp-fb:{PICTURES} nack\r\na=rtcp-fb:{PICTURES} nack pli\r\n"
    )


class WebRtcSession:
    """A session opened by `open`. port: of the answering process. location: absolute URL of the session."""

    opened: ClassVar[list[WebRtcSession]] = []

    def __init__(self, url: str, direction: str, codec: str = "H264") -> None:
        self.opened.append(self)
        self._url = url
        self._direction = direction
        self._codec = codec
        self.client = Client()
        self.network = NetworkClient(self.client)
        self.status = 0
        self.answer = ""
        self.headers: dict[str, str] = {}
        self.location = ""
        self.port = 0

    async def post(self) -> int:
        """Sends the offer; returns the status."""
        body = offer(self.client, self._direction, self._codec)
        async with request("POST", self._url, body, {"Content-Type": "application/sdp"}) as reply:
            self.status, self.answer = reply.status, await reply.text()
            self.headers = {name.lower(): value for name, value in reply.headers.items()}
        if self.status == 201:
            self.location = urljoin(self._url, self.headers["location"])
            self.port = int(self._found(r"a=candidate:\S+ 1 udp \d+ 127.0.0.1 (\d+)"))
            self.client.remote = (self._found(r"a=ice-ufrag:(\S+)"), self._found(r"a=ice-pwd:(\S+)"))
        return self.status

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.answer)
        assert match is not None, f"{pattern} in {self.answer}"
        return match[1]

    async def connect(self) -> None:
        """Opens the session and completes the handshake."""
        status = await self.post()
        assert status == 201, f"{status}: {self.answer}"
        await self.network.over_udp("127.0.0.1", self.port)
        await self.network.until(lambda: self.client.connected, checks=True)

    async def until(self, holds: Any) -> None:
        """Waits for a condition and keeps the consent fresh."""
        await self.network.until(holds, checks=True)

    def packets(self, payload_type: int) -> list[bytes]:
        """The packets received until now."""
        return [packet for packet in self.client.rtp if packet[1] & 0x7F == payload_type]

    @property
    def said_bye(self) -> bool:
        """Whether the other side sent an RTCP BYE."""
        return any(isinstance(item, rtcp.Bye) for packet in self.client.rtcp for item in rtcp.parse(packet))

    async def patch(self, url: str = "", ufrag: str = "", password: str = "") -> tuple[int, str]:
        """Sends a trickle ICE PATCH, or an ICE restart with new credentials."""
        ufrag, password = ufrag or self.client.ufrag, password or self.client.password
        body = f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=end-of-candidates\r\n"
        async with request(
            "PATCH", url or self.location, body, {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
        ) as reply:
            return reply.status, await reply.text()

    async def delete(self) -> int:
        async with request("DELETE", self.location) as reply:
            return reply.status

    def close(self) -> None:
        self.client.close()
        self.network.flush()
        self.network.close()


class request:
    """One HTTP request on a new connection, which any process may accept."""

    def __init__(self, method: str, url: str, body: str = "", headers: dict[str, str] | None = None) -> None:
        self._arguments: tuple[Any, ...] = (method, url)
        self._options = {"data": body or None, "headers": headers or {}}

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(at_most(30)))
        try:
            return await self._session.request(*self._arguments, **self._options)
        except BaseException:
            await self._session.close()
            raise

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()


class Publisher:
    """Publishes two seconds of H.264 repeatedly by WHIP, without sound."""

    def __init__(self, url: str, name: str = "h264") -> None:
        self.session = WebRtcSession(url, "sendonly")
        self._film = elementary(name)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.session.connect()
        self._task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        packetizer = packetizer_of(self._film.track)
        assert packetizer is not None
        sender, client = RtpSender(4711, PICTURES, 100), self.session.client
        began, shift, next_check = time.monotonic(), 0, 0.0
        while True:
            for take in self._film.takes:
                stamp = shift + take.dts * 90_000 // self._film.track.timescale
                await asyncio.sleep(max(0.0, began + stamp / 90_000 - time.monotonic()))
                payloads = packetizer.split(take.payload, MAX_PAYLOAD, take.key)
                for packet in sender.packets(payloads, stamp & 0xFFFFFFFF, marker=True):
                    client.send_rtp(packet)
                if time.monotonic() > next_check:
                    next_check = time.monotonic() + 1
                    client.send_check()
                self.session.network.flush()
            shift += 2 * 90_000

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.session.close()
