"""A WHIP publisher and a WHEP viewer in Python over real sockets, with access to every frame and request."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import av

from gateway.media import nal
from gateway.media.track import AccessUnit, Kind
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.depacketizers import AssembledFrame, NalDepacketizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from gateway.protocols.rtp.packets import parse_packet
from gateway.protocols.rtp.receiver import RtpReceiver
from gateway.protocols.rtp.sender import rtp_packet
from tests.support.gateway import Reply
from tests.support.time_outs import at_most
from tests.support.webrtc import Client, NetworkClient

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
VIDEO_TYPE, RTX_TYPE, AUDIO_TYPE = 96, 97, 111
_VIDEO = f"""m=video 9 UDP/TLS/RTP/SAVPF {VIDEO_TYPE} {RTX_TYPE}
c=IN IP4 0.0.0.0
a=rtpmap:{VIDEO_TYPE} H264/90000
a=fmtp:{VIDEO_TYPE} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:{VIDEO_TYPE} nack
a=rtcp-fb:{VIDEO_TYPE} nack pli
a=rtpmap:{RTX_TYPE} rtx/90000
a=fmtp:{RTX_TYPE} apt={VIDEO_TYPE}
"""
_AUDIO = f"""m=audio 9 UDP/TLS/RTP/SAVPF {AUDIO_TYPE}
c=IN IP4 0.0.0.0
a=rtpmap:{AUDIO_TYPE} opus/48000/2
a=fmtp:{AUDIO_TYPE} minptime=10;useinbandfec=1
"""


def offer(client: Client, way: str, *, video: bool = True, audio: bool = True, setup: str = "actpass") -> str:
    """An offer like those of browsers. way: sendonly or recvonly."""
    parts = [_VIDEO] * video + [_AUDIO] * audio
    head = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\n"
    text = head + f"a=group:BUNDLE {' '.join(map(str, range(len(parts))))}\n"
    for mid, part in enumerate(parts):
        text += part + f"a=mid:{mid}\na={way}\na=rtcp-mux\na=setup:{setup}\na=ice-ufrag:{client.ufrag}\n"
        text += f"a=ice-pwd:{client.password}\na=fingerprint:sha-256 {client.fingerprint[1]}\n"
    return text.replace("\n", "\r\n")


def send(method: str, url: str, body: str | bytes | None = None, kind: str = SDP, **headers: str) -> Reply:
    """Sends one request. An error status raises no exception."""
    data = body.encode() if isinstance(body, str) else body
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        fields["Content-Type"] = kind
    request = urllib.request.Request(url, data=data, headers=fields, method=method)
    try:
        with urllib.request.urlopen(request, timeout=at_most(40)) as reply:
            return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


async def ask(method: str, url: str, body: str | bytes | None = None, kind: str = SDP, **headers: str) -> Reply:
    """Sends one request without blocking the loop."""
    return await asyncio.to_thread(send, method, url, body, kind, **headers)


class Session:
    """One WebRTC session with a gateway. answer: the reply to the offer."""

    def __init__(self, way: str, *, setup: str = "actpass", **kinds: bool) -> None:
        self.client = Client(server=setup == "passive")
        self.network = NetworkClient(self.client)
        self.offer = offer(self.client, way, setup=setup, **kinds)
        self.answer = Reply(0, {}, b"")
        self.url = ""

    async def post(self, url: str, **headers: str) -> Reply:
        """Sends the offer."""
        self.answer = reply = await ask("POST", url, self.offer, **headers)
        if reply.status == 201:
            begin = url.split("/", 3)[:3]
            self.url = "/".join(begin) + reply.headers["location"]
            lines = reply.text.split("\r\n")
            self.client.remote = (self.value(lines, "a=ice-ufrag:"), self.value(lines, "a=ice-pwd:"))
            candidate = next(line for line in lines if line.startswith("a=candidate:") and " udp " in line).split()
            self.host, self.port = candidate[4], int(candidate[5])
        return reply

    @staticmethod
    def value(lines: Iterable[str], name: str) -> str:
        return next(line for line in lines if line.startswith(name)).removeprefix(name)

    async def connect(self, *, tcp: bool = False) -> None:
        """Connects after a 201 answer: ICE, DTLS, SRTP keys."""
        await (self.network.over_tcp if tcp else self.network.over_udp)(self.host, self.port)
        await self.network.until(lambda: self.client.connected, checks=True)

    async def patch(self, body: str, **headers: str) -> Reply:
        return await ask("PATCH", self.url, body, FRAGMENT, **headers)

    async def delete(self) -> Reply:
        return await ask("DELETE", self.url)

    def close(self) -> None:
        """Ends the session like a browser's close()."""
        if self.client.connected and not self.client.closed:
            self.client.close()
            self.network.flush()
        self.network.close()


class Whip(Session):
    """Publishes units in real time by their timestamps."""

    def __init__(self, **options: Any) -> None:
        super().__init__("sendonly", **options)
        self.sent: list[AccessUnit] = []
        self._sequence = {Kind.VIDEO: 100, Kind.AUDIO: 200}
        self.ssrc = {Kind.VIDEO: 0x1111, Kind.AUDIO: 0x2222}
        self._began: float | None = None

    def send_unit(self, unit: AccessUnit) -> None:
        """Sends one unit immediately."""
        packetizer = packetizer_of(unit.track)
        assert packetizer is not None
        kind = unit.track.kind
        rate = 90_000 if kind is Kind.VIDEO else 48_000
        stamp = (unit.dts + unit.cts) * rate // unit.track.timescale & 0xFFFFFFFF
        payloads = packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
        number, type = self._sequence[kind], VIDEO_TYPE if kind is Kind.VIDEO else AUDIO_TYPE
        for index, payload in enumerate(payloads):
            marker = kind is Kind.VIDEO and index == len(payloads) - 1
            self.client.send_rtp(
                rtp_packet(type, marker, (number + index) & 0xFFFF, stamp, self.ssrc[kind], payload)
            )  # fmt: skip
        self._sequence[kind] = (number + len(payloads)) & 0xFFFF
        self.sent.append(unit)
        self.network.flush()

    async def play(self, units: Iterable[AccessUnit], *, until: Callable[[], bool] = lambda: False) -> None:
        """Sends units at their times, and a connectivity check every second."""
        began, checked = time.monotonic(), 0.0
        for unit in units:
            await asyncio.sleep(max(0.0, began + unit.dts / unit.track.timescale - time.monotonic()))
            if until() or self.client.closed:
                return
            if time.monotonic() - checked > 1:
                checked = time.monotonic()
                self.client.send_check()
            self.send_unit(unit)


class Whep(Session):
    """A viewer that keeps received media. It requests lost packets and the first picture as browsers do."""

    def __init__(self, **options: Any) -> None:
        super().__init__("recvonly", **options)
        self._parsed = 0
        self._receivers: dict[int, RtpReceiver] = {}
        self.pictures: list[bytes] = []
        self.sounds: list[bytes] = []

    def read(self) -> None:
        """Reads the packets that have arrived until now."""
        while self._parsed < len(self.client.rtp):
            data = self.client.rtp[self._parsed]
            self._parsed += 1
            ssrc, type = int.from_bytes(data[8:12], "big"), data[1] & 0x7F
            if type == AUDIO_TYPE:
                self.sounds.append(data[12:])
            elif type == VIDEO_TYPE:
                if ssrc not in self._receivers:
                    depacketizer = NalDepacketizer(h265=False)
                    self._receivers[ssrc] = RtpReceiver(ssrc, VIDEO_TYPE, 90_000, depacketizer, nack=True)
                packet = parse_packet(data, empty=True)
                assert packet is not None
                found: list[Any] = list(self._receivers[ssrc].push(packet, time.monotonic()))
                self.pictures += [frame.payload for frame in found if isinstance(frame, AssembledFrame)]

    async def watch(self, enough: Callable[[], bool], timeout: float = 20.0) -> None:
        """Reads until `enough` is true."""
        async with asyncio.timeout(at_most(timeout)):
            checked = 0.0
            while True:
                self.read()
                if enough():
                    return
                if time.monotonic() - checked > 1:
                    checked = time.monotonic()
                    self.client.send_check()
                    self.network.flush()
                await asyncio.sleep(0.02)

    def said(self) -> list[rtcp.RtcpPacket]:
        """The received RTCP packets."""
        return [item for packet in self.client.rtcp for item in rtcp.parse(packet)]


@contextlib.asynccontextmanager
async def publishing(url: str, units: Iterable[AccessUnit], **options: Any) -> AsyncIterator[Whip]:
    """Pushes units by WHIP in the background and ends with DELETE."""
    whip = Whip(**options)
    reply = await whip.post(url)
    assert reply.status == 201, f"{reply.status} {reply.text}"
    await whip.connect()
    playing = asyncio.create_task(whip.play(units))
    try:
        yield whip
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
        if not whip.client.closed:
            await whip.delete()
        whip.close()


@contextlib.asynccontextmanager
async def watching(url: str, *, tcp: bool = False, **options: Any) -> AsyncIterator[Whep]:
    """A connected WHEP viewer that ends like a closed page."""
    whep = Whep(**options)
    reply = await whep.post(url)
    assert reply.status == 201, f"{reply.status} {reply.text}"
    await whep.connect(tcp=tcp)
    try:
        yield whep
    finally:
        whep.close()


def pictures_of(source: str | Path, enough: int) -> list[bytes]:
    """The slices of the first pictures of a URL or file, in decoding order."""
    taken: list[bytes] = []
    with av.open(str(source), timeout=30) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                taken.append(slices(bytes(packet)))
            if len(taken) == enough:
                break
    return taken


def slices(payload: bytes) -> bytes:
    """The slices of an H.264 access unit with start codes or lengths of four bytes, in a comparable form."""
    annex_b = payload.startswith((b"\0\0\1", b"\0\0\0\1"))
    units = _annex_b(payload) if annex_b else [bytes(view) for view in nal.views(payload, 4)]
    return b"".join(unit for unit in units if unit and unit[0] & 0x1F in (1, 5))


def _annex_b(payload: bytes) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in payload.split(b"\0\0\1")]
