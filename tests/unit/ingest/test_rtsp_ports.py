"""How the tracks of RTSP go: on channels of the connection, or over the two UDP ports of the process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.ingest.rtsp import udp as udp_module
from gateway.ingest.rtsp.setups import Setups
from gateway.ingest.rtsp.udp import RtspUdp, UdpTrack
from gateway.protocols.rtp.sender import rtp_packet
from tests.support.waiting import until


def opened(host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    if ":" in host:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, 0))
    return made


@pytest.fixture
async def udp() -> Iterator[tuple[RtspUdp, int, int]]:
    """The ports, with the numbers of that for RTP and of that for RTCP."""
    rtp, rtcp = opened(), opened()
    numbers = rtp.getsockname()[1], rtcp.getsockname()[1]
    made = RtspUdp([rtp], [rtcp], numbers[0])
    made.start()
    yield made, *numbers
    await made.finish()


def setups(udp: RtspUdp | None = None) -> Setups:
    return Setups(udp, lambda: "127.0.0.1", lambda number, data, is_report: None)


def test_a_player_gets_the_channels_that_it_asks_for_and_others_if_they_are_taken() -> None:
    made = setups()
    assert made.set_up(0, "RTP/AVP/TCP;interleaved=2-3", None) == "RTP/AVP/TCP;unicast;interleaved=2-3"
    assert made.set_up(1, "RTP/AVP/TCP;interleaved=2-3", None) == "RTP/AVP/TCP;unicast;interleaved=0-1"
    assert made.set_up(1, "RTP/AVP/TCP;interleaved=7-8", None) == "RTP/AVP/TCP;unicast;interleaved=0-1"
    assert made.channels == {0: 2, 1: 0}


def test_a_publisher_gets_any_channel() -> None:
    made = setups()
    assert made.set_up(0, "RTP/AVP/TCP;interleaved=101-102", 96) == (
        "RTP/AVP/TCP;unicast;interleaved=101-102;mode=record"
    )


async def test_all_tracks_go_one_way(udp: tuple[RtspUdp, int, int]) -> None:
    made = setups(udp[0])
    assert made.set_up(0, "RTP/AVP;unicast;client_port=5000-5001", None).startswith("RTP/AVP;unicast;client_port=5000")
    assert made.set_up(1, "RTP/AVP/TCP;interleaved=2-3", None) == ""
    assert made.set_up(1, "RTP/AVP;unicast;client_port=5002-5003", None)
    made.clear()
    assert not made.channels and not made.udp_tracks
    assert made.set_up(0, "RTP/AVP/TCP;interleaved=0-1", None)
    assert made.set_up(1, "RTP/AVP;unicast;client_port=5000-5001", None) == ""


async def test_a_client_may_set_up_its_tracks_again_in_another_way(udp: tuple[RtspUdp, int, int]) -> None:
    """As ffmpeg does when nothing came over UDP. A track that is set up again in the same way changes no other."""
    made = setups(udp[0])
    for number in (0, 1):
        assert made.set_up(number, f"RTP/AVP/UDP;unicast;client_port={5000 + 2 * number}-{5001 + 2 * number}", None)
    assert made.set_up(0, "RTP/AVP/UDP;unicast;client_port=5010-5011", None)
    assert [made.udp_tracks[number].ports for number in (0, 1)] == [[5010, 5011], [5002, 5003]]
    for number in (0, 1):
        channels = f"interleaved={2 * number}-{2 * number + 1}"
        assert made.set_up(number, f"RTP/AVP/TCP;unicast;{channels}", None) == f"RTP/AVP/TCP;unicast;{channels}"
    assert made.channels == {0: 0, 1: 2} and not made.udp_tracks
    assert not udp[0]._clients and not udp[0]._waiting


async def test_two_sessions_of_an_address_cannot_have_one_port(udp: tuple[RtspUdp, int, int]) -> None:
    first, second = setups(udp[0]), setups(udp[0])
    header = "RTP/AVP;unicast;client_port=5000-5001"
    assert first.set_up(0, header, None)
    assert second.set_up(0, header, None) == ""
    first.clear()
    assert second.set_up(0, header, None)


class Client:
    """A track of a session, and the sockets from which its client sends."""

    def __init__(self, udp: RtspUdp, payload_type: int | None, ports: list[int]) -> None:
        self.got: list[tuple[bytes, bool]] = []
        self.track = UdpTrack(
            "127.0.0.1", ports, payload_type, lambda data, is_report: self.got.append((data, is_report))
        )
        assert udp.add(self.track)


async def test_packets_of_tracks_behind_a_nat_go_by_their_payload_type(
    udp: tuple[RtspUdp, int, int],
) -> None:
    ports, rtp, _ = udp
    video, audio = Client(ports, 96, [5000, 5001]), Client(ports, 97, [5002, 5003])
    with opened() as one, opened() as two:
        one.sendto(rtp_packet(97, True, 1, 0, 7, b"sound"), ("127.0.0.1", rtp))
        two.sendto(rtp_packet(96, True, 1, 0, 8, b"picture"), ("127.0.0.1", rtp))
        await until(lambda: video.got and audio.got, "both came")
        assert audio.track.ports[0] == one.getsockname()[1]
        assert video.track.ports[0] == two.getsockname()[1]
        one.sendto(rtp_packet(97, True, 2, 0, 7, b"more"), ("127.0.0.1", rtp))
        await until(lambda: len(audio.got) == 2, "its port is known")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_packets_come_from_the_address_that_the_client_has_called(host: str) -> None:
    """Also before any packet of its own: firewalls and some players drop those of another address of the machine."""
    with opened(host) as rtp, opened(host) as rtcp, opened("127.0.0.1") as player:
        ports = RtspUdp([rtp], [rtcp], rtp.getsockname()[1])
        made = Setups(ports, lambda: "127.0.0.1", lambda number, data, is_report: None, lambda: "127.0.0.2")
        number = player.getsockname()[1]
        assert made.set_up(0, f"RTP/AVP;unicast;client_port={number}-{number}", None)
        ports.send(made.udp_tracks[0], 0, [b"packet"])
        player.setblocking(True)
        assert player.recvfrom(99) == (b"packet", ("127.0.0.2", rtp.getsockname()[1]))
        await ports.finish()


async def test_a_confirmed_port_is_not_replaced(udp: tuple[RtspUdp, int, int]) -> None:
    ports, rtp, rtcp = udp
    with opened() as own, opened() as other:
        client = Client(ports, None, [own.getsockname()[1], 5001])
        own.sendto(b"first", ("127.0.0.1", rtp))
        await until(lambda: client.got, "it came")
        other.sendto(b"second", ("127.0.0.1", rtp))
        other.sendto(b"report", ("127.0.0.1", rtcp))
        await until(lambda: len(client.got) == 2, "the report came")
        assert client.got == [(b"first", False), (b"report", True)]
        assert client.track.ports == [own.getsockname()[1], other.getsockname()[1]]


def test_a_datagram_costs_the_same_however_many_tracks_an_address_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can send datagrams with the address of a network of many players."""
    looked_at: list[UdpTrack] = []
    monkeypatch.setattr(udp_module, "_may_be_of", lambda track, *rest: looked_at.append(track) or True)
    ports = RtspUdp([], [], 5000)
    clients = [Client(ports, None, [10_000 + 2 * n, 10_001 + 2 * n]) for n in range(50)]
    for which in (0, 1):
        for client in clients[:-1]:
            assert ports._track_of(which, "127.0.0.1", client.track.ports[which], b"x") is client.track
        assert ports._track_of(which, "127.0.0.1", 9, b"x") is clients[-1].track
        for _ in range(100):
            assert ports._track_of(which, "127.0.0.1", 8, b"x") is None
    assert looked_at == [clients[-1].track] * 2
    for client in clients:
        ports.remove(client.track)
    assert not ports._clients and not ports._waiting


async def test_nothing_of_a_removed_track_or_an_unknown_address_is_kept(udp: tuple[RtspUdp, int, int]) -> None:
    ports, rtp, _ = udp
    client = Client(ports, None, [5000, 5001])
    with opened("127.0.0.2") as stranger, opened() as own:
        stranger.sendto(b"x", ("127.0.0.1", rtp))
        ports.remove(client.track)
        own.sendto(b"y", ("127.0.0.1", rtp))
        await asyncio.sleep(0.05)
    assert not client.got and not ports._clients and not ports._waiting
