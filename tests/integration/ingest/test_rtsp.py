"""RTSP with the real program: requests, passwords, reports, the end of streams, UDP behind a NAT, and TLS."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from gateway.protocols.rtp.rtcp import SenderReport, parse
from tests.support.clients import probe, push, until
from tests.support.gateway import Channel, Gateway, running
from tests.support.media import PLAIN
from tests.support.rtmp import all_tls_ports, trusting_anyone
from tests.support.rtsp import OPEN, RtspClient, rtsp_client, rtsp_push
from tests.support.time_outs import at_most
from tests.support.tools import need

NTP_EPOCH = 2_208_988_800


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg")
    settings = {"MILLRACE_STREAM__WAIT_FOR_PUBLISHER": "1", "MILLRACE_STREAM__LINGER": "1"}
    with running(MILLRACE_RTSP__UDP_PORTS="18110-18113", **OPEN, **settings) as instance:
        yield instance


@pytest.fixture(scope="module")
def live(gateway: Gateway) -> Iterator[Channel]:
    channel = gateway.channel("signed", playAuth="sign")
    with push(PLAIN, channel.push, loop=True):
        channel.wait_live()
        channel.wait_playable()
        yield channel


def sign_of(channel: Channel) -> str:
    """A play sign of a channel."""
    item = channel.gateway.api("GET", f"/videostream/{channel.id}").json()
    return str(item["playUrls"]["rtsp"]).partition("?sign=")[2]


def signed(channel: Channel) -> str:
    return f"{channel.id}?sign={sign_of(channel)}"


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


async def test_a_session_answers_each_request_from_options_to_teardown(gateway: Gateway, live: Channel) -> None:
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        public = (await client.ask("OPTIONS", "*")).headers["public"]
        assert {"DESCRIBE", "ANNOUNCE", "PLAY", "RECORD"} <= set(public.split(", ")) and "PAUSE" not in public
        assert (await client.ask("PLAY")).status == 455
        assert (await client.play(0, 1)).status == 200
        assert await client.packet(0) and await client.packet(2)
        assert (await client.ask("GET_PARAMETER")).status == 200
        assert (await client.ask("PLAY")).status == 200, "some players repeat it as a sign of life"
        await asyncio.to_thread(until, lambda: live.session()["viewers"]["rtsp"] == 1, "it counts as a viewer")
        assert (await client.ask("GET_PARAMETER", headers={"Session": "of-another"})).status == 454
        assert (await client.ask("TEARDOWN")).status == 200
        await asyncio.to_thread(until, lambda: live.session()["viewers"]["rtsp"] == 0, "it counts no longer")
        client.session = ""
        assert (await client.play(1)).status == 200, "the connection may begin another session"


async def test_a_paused_player_gets_nothing_and_goes_on_with_the_live_pictures(gateway: Gateway, live: Channel) -> None:
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        assert (await client.ask("PAUSE")).status == 405
        assert (await client.play(0, 1)).status == 200
        before = await client.packet(0)
        assert (await client.ask("PAUSE")).status == 200
        client.packets.clear()
        await asyncio.to_thread(until, lambda: live.session()["viewers"]["rtsp"] == 0, "it counts no longer")
        assert (await client.ask("PAUSE")).status == 405
        assert (await client.ask("GET_PARAMETER")).status == 200 and not client.packets
        assert (await client.ask("PLAY")).status == 200
        after = await client.packet(0)
        assert await client.packet(2) and after[8:12] == before[8:12], "of one source"
        passed = int.from_bytes(after[4:8]) - int.from_bytes(before[4:8]) & 0xFFFFFFFF
        assert 0 <= passed < 60 * 90_000, "from the last key frame on"


async def test_a_player_gets_only_the_tracks_that_it_sets_up_on_its_channels(gateway: Gateway, live: Channel) -> None:
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        await client.ask("DESCRIBE")
        answer = await client.ask("SETUP", "/trackID=1", {"Transport": "RTP/AVP/TCP;unicast;interleaved=4-5"})
        assert "interleaved=4-5" in answer.headers["transport"]
        assert (await client.ask("PLAY")).status == 200
        for _ in range(20):
            await client.packet(4)
        assert {packet.channel for packet in client.packets} <= {4, 5}


async def test_a_play_sign_is_also_the_password_of_any_user(gateway: Gateway, live: Channel) -> None:
    async with rtsp_client(gateway.ports["rtsp"], live.id) as client:
        refused = await client.ask("DESCRIBE")
        assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Basic ")
        assert (await client.ask("DESCRIBE", headers=basic("4102444800-00"))).status == 401
        assert (await client.ask("DESCRIBE", headers=basic(sign_of(live)))).status == 200
    url = f"rtsp://u:{sign_of(live)}@127.0.0.1:{gateway.ports['rtsp']}/{live.id}"
    found = await asyncio.to_thread(probe, url, "-rtsp_transport", "tcp")
    assert found["video"]["codec_name"] == "h264"


async def test_reports_have_one_wall_clock_for_sound_and_pictures(gateway: Gateway, live: Channel) -> None:
    """The first packets of a player are reports, so that it plays both together from the beginning."""
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        assert (await client.play(0, 1)).status == 200
        while len(client.packets) < 10:
            await client.receive()
        first: dict[int, SenderReport] = {}
        for packet in client.packets:
            if packet.channel % 2:
                report = parse(packet.payload)[0]
                assert isinstance(report, SenderReport)
                first.setdefault(packet.channel, report)
        assert {packet.channel for packet in client.packets[:2]} == {1, 3}
        assert first[1].ntp == first[3].ntp
        assert abs(first[1].ntp / (1 << 32) - NTP_EPOCH - time.time()) < 5


async def test_players_get_a_goodbye_when_the_stream_ends(gateway: Gateway) -> None:
    channel = gateway.channel("ends")
    with push(PLAIN, channel.push) as publisher:
        channel.wait_live()
        async with rtsp_client(gateway.ports["rtsp"], channel.id) as client:
            assert (await client.play(0, 1)).status == 200
            await asyncio.to_thread(publisher.stop)
            assert await client.closed()
    goodbyes = [packet for packet in client.packets if packet.channel % 2 and packet.payload[-8:-7] == b"\x81"]
    assert {packet.channel for packet in goodbyes} == {1, 3}


def test_a_push_with_the_key_as_password_answers_the_challenge_of_digest(gateway: Gateway) -> None:
    channel = gateway.channel("digest")
    url = f"rtsp://camera:{channel.key}@127.0.0.1:{gateway.ports['rtsp']}/{channel.id}"
    with rtsp_push(PLAIN, url, loop=True) as publisher:
        channel.wait_live()
        until(lambda: channel.session()["tracks"], "it has tracks")
        assert channel.session()["publisher"]["protocol"] == "rtsp"
        assert not channel.session()["refusals"], "a challenge is no refusal"
        with rtsp_push(PLAIN, url, loop=True) as second:
            until(lambda: not second.running, "the second push ends")
            assert "403 Forbidden: The channel is in use" in second.errors
        assert publisher.running


def test_a_refused_push_learns_why_and_so_does_the_owner(gateway: Gateway) -> None:
    channel = gateway.channel("refused")
    address = f"rtsp://127.0.0.1:{gateway.ports['rtsp']}/{channel.id}"
    wrong = f"?sign={channel.key[:-1]}{'0' if channel.key[-1] != '0' else '1'}"
    for query, text in ((wrong, "401 Unauthorized: Wrong key"), ("", "401 Unauthorized: Authorization required")):
        with rtsp_push(PLAIN, address + query) as publisher:
            until(lambda p=publisher: not p.running, "it ends")  # type: ignore[misc]
            assert text in publisher.errors
    reasons = [refusal["reason"] for refusal in channel.session()["refusals"]]
    assert sorted(reasons) == ["missing", "wrong"]


SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {}/90000\r\n"
    "a=control:streamid=0\r\n"
)


async def test_a_push_of_unknown_codecs_is_refused_in_words(gateway: Gateway) -> None:
    channel = gateway.channel("theora")
    async with rtsp_client(gateway.ports["rtsp"], f"{channel.id}?sign={channel.key}") as client:
        answer = await client.ask("ANNOUNCE", body=SDP.format("THEORA").encode())
        assert answer.status == 415
    await asyncio.to_thread(until, lambda: channel.session()["refusals"], "the owner learns of it")
    assert channel.session()["refusals"][0]["reason"] == "unusable"


def test_a_stop_of_an_encoder_is_no_broken_connection(gateway: Gateway) -> None:
    channel = gateway.channel("stop")
    with rtsp_push(PLAIN, channel.item["pushUrls"]["rtsp"], loop=True) as publisher:
        channel.wait_live()
        publisher.stop()
    until(lambda: '"reason":"stopped"' in gateway.log, "the end is logged as a stop")


def test_a_rendition_is_a_path_of_its_own(gateway: Gateway) -> None:
    channel = gateway.channel("ladder", isCodec=True, ld=True)
    with push(PLAIN, channel.push, loop=True):
        channel.wait_live()
        channel.wait_playable("index.m3u8", timeout=60)
        address = str(channel.item["playUrls"]["rtsp"])
        found = probe(f"{address}@360p", "-rtsp_transport", "tcp")
        assert {kind: stream["codec_name"] for kind, stream in found.items()} == {"video": "h264", "audio": "aac"}


# ---- UDP ----


class UdpPair:
    """Two sockets of a player. declared: the ports of SETUP, which a NAT has changed if they are not those of it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.sockets = []
        for _ in range(2):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.bind((host, 0))
            opened.settimeout(at_most(10))
            self.sockets.append(opened)

    @property
    def ports(self) -> str:
        return "-".join(str(opened.getsockname()[1]) for opened in self.sockets)

    def close(self) -> None:
        for opened in self.sockets:
            opened.close()


@pytest.fixture
def pair() -> Iterator[UdpPair]:
    made = UdpPair()
    yield made
    made.close()


async def play_over_udp(client: RtspClient, ports: str) -> tuple[int, int]:
    """Plays the first track over UDP. Returns the server's ports."""
    await client.ask("DESCRIBE")
    answer = await client.ask("SETUP", "/trackID=0", {"Transport": f"RTP/AVP;unicast;client_port={ports}"})
    assert answer.status == 200, answer
    first, _, second = answer.headers["transport"].partition("server_port=")[2].partition("-")
    assert (await client.ask("PLAY")).status == 200
    return int(first), int(second.partition(";")[0])


async def test_a_player_behind_a_nat_gets_packets_where_its_own_come_from(
    gateway: Gateway, live: Channel, pair: UdpPair
) -> None:
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        rtp, rtcp = await play_over_udp(client, "40000-40001")
        pair.sockets[0].sendto(b"\xce\xfa\xed\xfe", ("127.0.0.1", rtp))
        pair.sockets[1].sendto(b"\x80\xc9\x00\x01\x00\x00\x00\x00", ("127.0.0.1", rtcp))
        packet, sender = await asyncio.to_thread(pair.sockets[0].recvfrom, 2_048)
        assert packet[1] & 0x7F == 96 and sender == ("127.0.0.1", rtp)
        packet, sender = await asyncio.to_thread(pair.sockets[1].recvfrom, 2_048)
        assert packet[1] == 200 and sender == ("127.0.0.1", rtcp)


async def test_a_player_without_packets_over_udp_changes_to_its_connection(gateway: Gateway, live: Channel) -> None:
    """With the requests of ffmpeg: PAUSE, and SETUP of each track without a session."""
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        await client.ask("DESCRIBE")
        for number, ports in enumerate(("40020-40021", "40022-40023")):
            header = {"Transport": f"RTP/AVP/UDP;unicast;client_port={ports}"}
            assert (await client.ask("SETUP", f"/trackID={number}", header)).status == 200
        assert (await client.ask("PLAY")).status == 200
        assert (await client.ask("PAUSE")).status == 200
        client.session = ""
        for number in (0, 1):
            header = {"Transport": f"RTP/AVP/TCP;unicast;interleaved={2 * number}-{2 * number + 1}"}
            answer = await client.ask("SETUP", f"/trackID={number}", header)
            assert answer.status == 200 and answer.headers["transport"] == header["Transport"]
        assert (await client.ask("PLAY")).status == 200
        assert await client.packet(0) and await client.packet(2)


@pytest.mark.parametrize("appended", ["query", "path"])
async def test_a_player_sets_up_its_tracks_on_another_connection_by_the_base_of_the_description(
    appended: str, gateway: Gateway, live: Channel
) -> None:
    """As Media3, the player of Android apps, does when nothing came over UDP. It appends a track to the path."""
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        base = (await client.ask("DESCRIBE")).headers["content-base"]
    assert urljoin(base, "trackID=0").endswith(f"/{live.id}/trackID=0")
    path, _, query = base.partition("?")
    track = f"{base}/trackID=0" if appended == "query" else f"{path}trackID=0?{query}"
    async with rtsp_client(gateway.ports["rtsp"], live.id) as other:
        assert (await other.ask("SETUP", f"{path}trackID=0", {"Transport": "RTP/AVP/TCP;unicast"})).status == 401
        assert (await other.ask("SETUP", track, {"Transport": "RTP/AVP/TCP;unicast"})).status == 200
        assert (await other.ask("PLAY", base)).status == 200
        assert await other.packet(0)


async def test_packets_go_only_to_the_address_that_asked(gateway: Gateway, live: Channel) -> None:
    """Neither a parameter of SETUP nor datagrams of another address move them."""
    other = UdpPair("127.0.0.2")
    try:
        async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
            own = UdpPair()
            wanted = f"{own.ports};destination=127.0.0.2"
            rtp, _ = await play_over_udp(client, wanted)
            other.sockets[0].sendto(b"\xce\xfa\xed\xfe", ("127.0.0.1", rtp))
            for _ in range(30):
                await asyncio.to_thread(own.sockets[0].recvfrom, 2_048)
            own.close()
            other.sockets[0].setblocking(False)
            with pytest.raises(BlockingIOError):
                other.sockets[0].recvfrom(2_048)
    finally:
        other.close()


@pytest.mark.nightly
async def test_a_player_over_udp_without_a_sign_of_life_is_ended(
    gateway: Gateway, live: Channel, pair: UdpPair
) -> None:
    async with rtsp_client(gateway.ports["rtsp"], signed(live)) as client:
        began = time.monotonic()
        await play_over_udp(client, pair.ports)
        assert await asyncio.wait_for(client.reader.read(), at_most(180)) == b""
        assert time.monotonic() - began > 100
    assert '"reason":"no sign of life"' in gateway.log


# ---- TLS ----


def test_push_and_play_over_tls(tmp_path: Path) -> None:
    need("ffmpeg", "ffprobe")
    with running(MILLRACE_RTSP__TLS_PORT="0", **OPEN, **all_tls_ports(tmp_path)) as gateway:
        channel = gateway.channel("tls")
        address = f"rtsps://127.0.0.1:{gateway.ports['rtsps']}/{channel.id}"
        with rtsp_push(PLAIN, f"{address}?sign={channel.key}", loop=True) as publisher:
            channel.wait_live()
            assert channel.session()["publisher"]["protocol"] == "rtsps"
            found = probe(address, "-rtsp_transport", "tcp")
            assert {kind: stream["codec_name"] for kind, stream in found.items()} == {"video": "h264", "audio": "aac"}
            assert publisher.running, publisher.errors[-400:]


async def test_media_of_a_connection_over_tls_never_go_over_udp(tmp_path: Path) -> None:
    """They would be sent in clear."""
    need("ffmpeg")
    settings = all_tls_ports(tmp_path)
    with running(MILLRACE_RTSP__TLS_PORT="0", MILLRACE_RTSP__UDP_PORTS="18120-18121", **OPEN, **settings) as gateway:
        channel = gateway.channel("tls-udp")
        with push(PLAIN, channel.push, loop=True):
            await asyncio.to_thread(channel.wait_live)
            async with rtsp_client(gateway.ports["rtsps"], channel.id, tls=trusting_anyone()) as client:
                assert (await client.ask("DESCRIBE")).status == 200
                refused = await client.ask(
                    "SETUP", "/trackID=0", {"Transport": "RTP/AVP;unicast;client_port=5000-5001"}
                )
                assert refused.status == 461
