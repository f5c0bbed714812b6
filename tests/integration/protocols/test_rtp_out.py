"""Our RTP over loopback, read by ffmpeg and GStreamer: every frame comes out unchanged."""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.media.track import Codec
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from gateway.protocols.rtp.sender import group_runs
from tests.support.clients import Program, new_ffmpeg, until
from tests.support.elementary import Elementary, elementary
from tests.support.media import parse_framehash
from tests.support.rtp_sender import RtpSender
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

UDP_SEGMENT = 103  # linux/udp.h
NAMES = {
    Codec.H264: "H264", Codec.H265: "H265", Codec.VP8: "VP8", Codec.VP9: "VP9", Codec.AV1: "AV1", Codec.OPUS: "OPUS",
}  # fmt: skip
SSRC = 0xC0FFEE
SIZE = 160 * 120 * 3 // 2  # bytes of a picture of `elementary`


@dataclass(frozen=True)
class Packets:
    """The packets of each access unit, and the goodbye at the end."""

    units: list[list[bytes]]
    goodbye: bytes

    @classmethod
    def of(cls, film: Elementary) -> Packets:
        packetizer = packetizer_of(film.track)
        assert packetizer is not None
        video = film.track.codec is not Codec.OPUS
        clock = 90_000 if video else 48_000
        sender = RtpSender(SSRC, 96, 65_400)  # the numbers wrap on the way
        units, timestamp = [], 0
        for take in film.takes:
            timestamp = ((take.dts + take.cts) * clock // film.track.timescale + 7_000) & 0xFFFFFFFF
            payloads = packetizer.split(take.payload, MAX_PAYLOAD, take.key)
            units.append(sender.packets(payloads, timestamp, marker=video))
        report = rtcp.sender_report(sender.report(time.time(), timestamp), "millrace")
        return cls(units, report + rtcp.bye(SSRC))

    def send(self, port: int) -> None:
        """Sends each run by one call, like the gateway. It takes a tenth of the film's duration."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect(("127.0.0.1", port))
            for packets in self.units:
                for run in group_runs(packets):
                    length = struct.pack("=H", len(run[0]))
                    udp.sendmsg(run, [(socket.IPPROTO_UDP, UDP_SEGMENT, length)] if len(run) > 1 else [])
                time.sleep(0.004)  # the receiver's socket buffer is small
            udp.send(self.goodbye)


@pytest.fixture
def port() -> Iterator[int]:
    """A free even UDP port; the next one is free, too: ffmpeg expects RTCP there."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
            first.bind(("127.0.0.1", 0))
            found = int(first.getsockname()[1])
        if found % 2 == 0 and not bound(found) and not bound(found + 1):
            yield found
            return


def bound(port: int) -> bool:
    """Returns whether a program has this UDP port."""
    lines = [line for table in ("udp", "udp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return any(int(line.split()[1].rpartition(":")[2], 16) == port for line in lines)


def description(film: Elementary, port: int) -> str:
    """The SDP of one track, without parameter sets: they come in band."""
    codec = film.track.codec
    kind, clock = ("audio", "48000/2") if codec is Codec.OPUS else ("video", "90000")
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", f"m={kind} {port} RTP/AVP 96",
             f"a=rtpmap:96 {NAMES[codec]}/{clock}"]  # fmt: skip
    return "\r\n".join([*lines, "a=fmtp:96 packetization-mode=1"] if codec is Codec.H264 else lines) + "\r\n"


def received(command: list[str], film: Elementary, port: int) -> str:
    """Returns the output of a reader that listened on `port` while our packets came."""
    with Program(command) as reader:
        until(lambda: bound(port) or reader.process.poll() is not None, "the reader listens")
        Packets.of(film).send(port)
        assert reader.process.wait(at_most(30)) == 0, reader.errors
        return reader.output


def framehash(ffmpeg: str, source: Path, before: Sequence[str] = (), *, copy: bool = False) -> list[str]:
    output = ["-c:a", "copy"] if copy else ["-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough"]
    return [
        ffmpeg,
        "-nostdin",
        "-v",
        "error",
        *before,
        "-i",
        str(source),
        *output,
        "-f",
        "framehash",
        "-hash",
        "md5",
        "-",
    ]


@pytest.mark.parametrize("name", ["h264", "h264-b", "h264-aud", "h265", "vp8", "vp9", "av1", "av1-hidden", "opus"])
def test_ffmpeg_gets_the_frames_of_the_source(name: str, port: int, tmp_path: Path) -> None:
    need("ffmpeg")
    ffmpeg = new_ffmpeg() if name.startswith("av1") else "ffmpeg"
    film = elementary(name)
    copy = name == "opus"
    session = tmp_path / "stream.sdp"
    session.write_text(description(film, port))
    command = framehash(ffmpeg, session, ["-protocol_whitelist", "file,udp,rtp", "-buffer_size", "2000000"], copy=copy)
    got = parse_framehash(received(command, film, port))
    source = subprocess.run(
        framehash(ffmpeg, film.path, copy=copy), capture_output=True, timeout=at_most(60), check=True
    )
    want = parse_framehash(source.stdout.decode())
    for frames, wanted in ((got.video, want.video), (got.audio, want.audio)):
        assert [f.digest for f in frames] == [f.digest for f in wanted]
        # From the tenth frame on: before, ffmpeg guesses how many pictures are reordered, and moves the first ones.
        drift = [f.time - frames[-1].time - (w.time - wanted[-1].time) for f, w in zip(frames, wanted, strict=True)]
        assert max(map(abs, drift[10:]), default=0) < 0.002
    assert got.video or got.audio


I420 = " ! videoconvert ! video/x-raw,format=I420"
GSTREAMER = {
    "h264": "rtph264depay ! h264parse ! avdec_h264",
    "h264-aud": "rtph264depay ! h264parse ! avdec_h264",
    "h265": "rtph265depay ! h265parse ! avdec_h265",
    "vp8": "rtpvp8depay ! vp8dec",
    "vp9": "rtpvp9depay ! vp9dec",
}


def gstreamer(film: Elementary, port: int, chain: str, target: Path) -> bytes:
    """Returns the output that GStreamer wrote from our packets."""
    need("gst-launch-1.0", "gst-inspect-1.0")
    for element in chain.removesuffix(I420).split(" ! "):
        if subprocess.run(
            ["gst-inspect-1.0", "--exists", element.split()[0]], timeout=at_most(30), check=False
        ).returncode:
            lacking(f"GStreamer has no {element}")
    media, clock = ("audio", 48_000) if film.track.codec is Codec.OPUS else ("video", 90_000)
    name = NAMES[film.track.codec]
    caps = f"application/x-rtp,media={media},clock-rate={clock},encoding-name={name},payload=96"
    count = sum(map(len, Packets.of(film).units))
    source = ["udpsrc", f"port={port}", "buffer-size=2000000", f"num-buffers={count}", f"caps={caps}"]
    sink = ["filesink", f"location={target}"]
    received(["gst-launch-1.0", "-q", *source, "!", *chain.split(), "!", *sink], film, port)
    return target.read_bytes()


@pytest.mark.parametrize("name", GSTREAMER)
def test_gstreamer_gets_the_frames_of_the_source(name: str, port: int, tmp_path: Path) -> None:
    need("ffmpeg")
    film = elementary(name)
    chain = GSTREAMER[name] + I420
    got = gstreamer(film, port, chain, tmp_path / "pictures")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(film.path), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    want = subprocess.run(command, capture_output=True, timeout=at_most(60), check=True).stdout
    assert pictures(got) == pictures(want)


def pictures(raw: bytes) -> list[str]:
    return [hashlib.md5(raw[at : at + SIZE]).hexdigest() for at in range(0, len(raw), SIZE)]


def test_gstreamer_gets_the_packets_of_opus(port: int, tmp_path: Path) -> None:
    film = elementary("opus")
    got = gstreamer(film, port, "rtpopusdepay", tmp_path / "sound")
    assert got == b"".join(take.payload for take in film.takes)
