"""SRT with implementations other than libsrt: gosrt, MediaMTX as target and source, and Wireshark's dissector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, pull, push, take_of, until, whole_frames
from tests.support.free_ports import free_port
from tests.support.gateway import Gateway
from tests.support.gosrt import gosrt_play, gosrt_push
from tests.support.link_conditions import Conditions
from tests.support.media import PLAIN, Take, judge
from tests.support.mediamtx import mediamtx_program
from tests.support.packet_capture import PacketCapture, dissected
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import PATIENT, srt_push
from tests.support.srt_link import srt_url, udp_link

PASSPHRASE = "a passphrase of 25 letters"

gateway = shared_gateway("ffmpeg", films=[PLAIN], MILLRACE_EGRESS__ALLOW="127.0.0.0/8", **PATIENT)


def written(path: Path, least: int = 300_000) -> Take:
    """The frames of a transport stream that is being written; the last ones are incomplete."""
    until(lambda: path.exists() and path.stat().st_size > least, "it is received", 30)
    return whole_frames(path)


# ---- gosrt ----


ENCRYPTED = f"&passphrase={PASSPHRASE.replace(' ', '%20')}&pbkeylen=32"


@pytest.mark.parametrize("key", [*at_night(""), ENCRYPTED], ids=["plain", "aes"])
def test_gosrt_publishes_and_plays_every_frame(key: str, gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(srtPassphrase=PASSPHRASE if key else "")
    server, out = f"{channel.srt_server}?mode=caller&latency=200{key}", tmp_path / "out.ts"
    with gosrt_push(PLAIN, f"{server}&streamid=publish:{channel.id}%3Fsign%3D{channel.key}") as encoder:
        channel.wait_live()
        with gosrt_play(f"{server}&streamid=read:{channel.id}", out), pull(channel.url("live.flv"), seconds=3) as flv:
            judge(take_of(flv), PLAIN)
            judge(written(out), PLAIN)
        assert encoder.running, encoder.errors[-600:]


def test_gosrt_as_listener_gets_a_relay(gateway: Gateway, tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "out.ts"
    channel = gateway.channel(isRelay=True, relayURL=[f"srt://127.0.0.1:{port}?latency=200"])
    with gosrt_play(f"srt://127.0.0.1:{port}?mode=listener", out), push(PLAIN, channel.push):
        channel.wait_live()
        judge(written(out), PLAIN)


def test_gosrt_as_listener_is_pulled(gateway: Gateway) -> None:
    port = free_port()
    with gosrt_push(PLAIN, f"srt://127.0.0.1:{port}?mode=listener&latency=200"):
        check_pull(gateway, f"srt://127.0.0.1:{port}")


def check_pull(gateway: Gateway, url: str) -> None:
    """A channel that pulls the address plays the frames of PLAIN."""
    channel = gateway.channel(inputs=[{"name": "p", "kind": "pull", "url": url, "always": True}])
    channel.wait_live()
    with pull(channel.url("live.flv"), seconds=3) as player:
        judge(take_of(player), PLAIN, cut=True)


# ---- MediaMTX ----

MEDIAMTX = """
srtAddress: 127.0.0.1:{port}
rtsp: no
rtmp: no
hls: no
webrtc: no
moq: no
paths:
  all_others:
"""


@pytest.fixture
def mediamtx(tmp_path: Path) -> Iterator[tuple[Program, str]]:
    """MediaMTX with SRT only. Yields it and its address."""
    program = mediamtx_program()
    port, config = free_port(), tmp_path / "mediamtx.yml"
    config.write_text(MEDIAMTX.format(port=port))
    with Program([program, str(config)], cwd=tmp_path) as server:
        until(lambda: "[SRT]" in server.output, "MediaMTX listens", 20)
        yield server, f"srt://127.0.0.1:{port}"


def test_mediamtx_gets_a_relay(gateway: Gateway, mediamtx: tuple[Program, str]) -> None:
    server, address = mediamtx
    channel = gateway.channel(isRelay=True, relayURL=[f"{address}?streamid=publish:here&latency=200"])
    with push(PLAIN, channel.push):
        channel.wait_live()
        until(lambda: "is publishing" in server.output, "it gets the stream", 20)
        with pull(f"{address}?streamid=read:here", seconds=3) as player:
            judge(take_of(player), PLAIN, cut=True)


def test_mediamtx_is_pulled(gateway: Gateway, mediamtx: tuple[Program, str]) -> None:
    _, address = mediamtx
    with srt_push(PLAIN, f"{address}?streamid=publish:there&pkt_size=1316"):
        check_pull(gateway, f"{address}?streamid=read:there")


# ---- Wireshark ----

SEQUENCE, NOTES, DAMAGED = "srt.seqno", "_ws.expert.message", "_ws.malformed"
FIELDS = (SEQUENCE, "srt.type", "srt.hs.version", "srt.hs.sid", NOTES, DAMAGED)


def requested(note: str) -> list[str]:
    """The numbers in a note about a request: of one packet, or of a range."""
    numbers = note.removeprefix("Loss sequence: ").removeprefix("Loss sequence range: ")
    first, _, last = numbers.partition("-")
    return [str(number) for number in range(int(first), int(last or first) + 1)]


def test_wireshark_reads_every_packet(gateway: Gateway, tmp_path: Path) -> None:
    channel, captured, file = gateway.channel(srtPassphrase=PASSPHRASE), PacketCapture(), tmp_path / "srt.pcap"
    with udp_link(gateway.ports["srt"], Conditions(loss=5, delay=10)) as link:
        link.forwarded = captured.add
        with srt_push(PLAIN, srt_url(channel, link.port), f"passphrase={PASSPHRASE}") as encoder:
            channel.wait_live()
            until(lambda: len(captured.packets) > 800, "packets pass", 30)
            encoder.stop()
        until(lambda: channel.session()["state"] == "lingering", "the push has ended")
    captured.write(file)
    packets = dissected(file, link.port, "srt", FIELDS)
    assert len(packets) == len(captured.packets)
    assert {packet[DAMAGED] for packet in packets} == {""}
    ours = [packet for packet, sent in zip(packets, captured.packets, strict=True) if sent.sender == link.port]
    assert {packet["srt.hs.version"].partition("|")[0] for packet in ours} == {"", "5"}
    assert {packet["srt.type"] for packet in ours} >= {"0x0000", "0x0002", "0x0003"}  # handshake, ACK, NAK
    assert f"publish:{channel.id}?sign={channel.key}" in {packet["srt.hs.sid"] for packet in packets}
    # All notes of the dissector are the numbers in our requests, and all are of packets that were sent.
    notes = "|".join(packet[NOTES] for packet in packets if packet[NOTES]).split("|")
    missed = {number for note in notes for number in requested(note)}
    assert missed and missed <= {packet[SEQUENCE] for packet in packets if packet[SEQUENCE]}, notes
