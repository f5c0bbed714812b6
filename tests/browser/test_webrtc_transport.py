"""Chromium's camera over our ICE, DTLS and SRTP, and packets back to it: by UDP and by TCP, by IPv4 and IPv6."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Browser, Page

from gateway.protocols.sdp.offer import OfferedTransport
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.peer import Peer
from gateway.webrtc.sockets import open_sockets
from tests.support.at_night import at_night
from tests.support.broadcaster import CAMERAS
from tests.support.browser import shared_browser
from tests.support.time_outs import at_most
from tests.support.waiting import until
from tests.support.webrtc import Recorder, tcp_limits, webrtc_settings

_OFFER = """async () => {
  const camera = await navigator.mediaDevices.getUserMedia({video: {width: 320, height: 240}});
  window.pc = new RTCPeerConnection();
  pc.addTransceiver(camera.getVideoTracks()[0], {direction: "sendrecv"});
  window.frames_seen = 0;
  pc.ontrack = (e) => { const v = document.createElement("video"); v.muted = true; v.autoplay = true;
    v.srcObject = new MediaStream([e.track]); document.body.append(v); window.video = v; };
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp; }"""
_ANSWER = "(sdp) => pc.setRemoteDescription({type: 'answer', sdp})"
_PAIR = """async () => { for (const s of (await pc.getStats()).values())
  if (s.type === "transport") { const all = await pc.getStats(); const p = all.get(s.selectedCandidatePairId);
    const r = p && all.get(p.remoteCandidateId);
    return {dtls: s.dtlsState, srtp: s.srtpCipher, cipher: s.dtlsCipher, protocol: r && r.protocol,
            address: r && r.address, answered: p && p.responsesReceived}; } }"""

browser = shared_browser(*CAMERAS)


@dataclass
class Echo(Recorder):
    """Sends the camera's packets back, with an SSRC of its own."""

    peer: Peer | None = None
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        super().receive_rtp(packets, arrivals)
        assert self.peer is not None
        for packet in packets:
            if packet[1] & 0x7F == 96:
                header = 12 + 4 * (packet[0] & 15)
                if packet[0] & 0x10:  # without the header extension
                    header += 4 + 4 * int.from_bytes(packet[header + 2 : header + 4], "big")
                self.peer.send(
                    [bytes((packet[0] & 0x20 | 0x80,)) + packet[1:8] + struct.pack(">I", 4242) + packet[header:]]
                )
        if len(self.rtp_packets) > 100:
            self.enough.set()


def answer(offer: str, endpoint: WebRtcEndpoint, peer: Peer, candidates: list[str]) -> str:
    mid = re.search(r"a=mid:(\S+)", offer)
    assert mid is not None
    lines = [
        "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=ice-lite", f"a=group:BUNDLE {mid[1]}",
        "m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", f"a=mid:{mid[1]}", "a=sendrecv", "a=rtcp-mux",
        "a=rtpmap:96 VP8/90000", f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}",
        f"a=fingerprint:sha-256 {endpoint.fingerprint}", "a=setup:passive", "a=msid:s t", "a=ssrc:4242 cname:c",
        *(f"a=candidate:{line}" for line in candidates), "a=end-of-candidates",
    ]  # fmt: skip
    return "\r\n".join(lines) + "\r\n"


@contextlib.asynccontextmanager
async def camera_page(browser: Browser) -> AsyncIterator[Page]:
    async with await browser.new_context() as context:
        page = await context.new_page()
        await page.route("**/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        await page.goto("http://localhost/")
        yield page


@pytest.mark.parametrize(("host", "protocol"), [("127.0.0.1", "tcp"), ("::1", "udp"), *at_night(("127.0.0.1", "udp"))])
async def test_a_camera_stream_is_received_and_sent_back(browser: Browser, host: str, protocol: str) -> None:
    settings = webrtc_settings(host=host)
    endpoint = WebRtcEndpoint(settings, open_sockets(settings.host, settings.port), tcp_limits())
    await endpoint.start()
    try:
        async with camera_page(browser) as page:
            offer = await page.evaluate(_OFFER)
            found = [re.search(rf"a={name}:(\S+)", offer) for name in ("ice-ufrag", "ice-pwd")]
            fingerprint = re.search(r"a=fingerprint:(\S+) (\S+)", offer)
            assert fingerprint is not None and all(found), offer
            ufrag, password = (match[1] for match in found if match)
            echo = Echo()
            peer = endpoint.open_peer(
                OfferedTransport(ufrag, password, (fingerprint[1], fingerprint[2])), echo, "127.0.0.1"
            )
            echo.peer = peer
            candidates = [line for line in endpoint.candidates(host) if f" {protocol} " in line]
            assert candidates
            await page.evaluate(_ANSWER, answer(offer, endpoint, peer, candidates))
            async with asyncio.timeout(at_most(20)):
                await echo.enough.wait()
            pair = await page.evaluate(_PAIR)
            assert (pair["dtls"], pair["protocol"], pair["address"]) == ("connected", protocol, host)
            assert pair["srtp"] == "SRTP_AEAD_AES_128_GCM", pair
            assert peer.protocol == protocol and peer.address == host
            await until(lambda: peer.round_trip is not None)  # by the browser's next check
            await page.wait_for_function("window.video && window.video.videoWidth === 320", timeout=at_most(15_000))
            assert echo.rtcp_packets
            await page.evaluate("() => pc.close()")
            async with asyncio.timeout(at_most(15)):
                await echo.ended.wait()
            assert echo.ends == [PeerEnd.CLOSED_BY_PEER]
            print(host, protocol, pair, peer.round_trip, endpoint.counters.dropped, endpoint.counters.datagrams_in)
    finally:
        await endpoint.close()
