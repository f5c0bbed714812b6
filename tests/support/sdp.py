"""SDP offers for tests: those of real clients (`tests/golden/sdp`), and small ones."""

from __future__ import annotations

from pathlib import Path

from gateway.protocols.sdp.answer import LocalTransport

CAPTURED = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "golden" / "sdp").glob("*.sdp")}
FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalTransport("ours", "o" * 24, FINGERPRINT, ("1 1 udp 2130706431 192.0.2.1 8189 typ host",))
SESSION = (
    f"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=fingerprint:sha-256 {FINGERPRINT}\r\n"
)
TRANSPORT = f"a=ice-ufrag:theirs\r\na=ice-pwd:{'t' * 24}\r\na=setup:actpass\r\na=rtcp-mux\r\n"
VIDEO = (
    f"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{TRANSPORT}a=mid:0\r\na=sendonly\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\n"
    "a=fmtp:97 apt=96\r\n"
)
AUDIO = f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{TRANSPORT}a=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"


def offer(video: str = VIDEO, audio: str = AUDIO, session: str = SESSION) -> bytes:
    return (session + video + audio).encode()
