"""RTMP and RTMPS behind load balancers that speak PROXY protocol v2, hand-made ones and a real HAProxy."""

import asyncio
import contextlib
import ipaddress
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.at_night import at_night
from tests.support.clients import Program, probe, push, until
from tests.support.gateway import Gateway, running
from tests.support.media import PLAIN
from tests.support.rtmp import all_tls_ports, connected, trusting_anyone
from tests.support.tools import need

STARTED = "NetStream.Publish.Start"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LISTED, STRANGER = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(
        **all_tls_ports(tmp_path_factory.mktemp("tls")),
        MILLRACE_RTMP__PROXY_FROM="127.0.0.2,127.0.0.4/30",
        MILLRACE_STREAM__LINGER="0",
        MILLRACE_LIMITS__PUBLISHERS_PER_ADDRESS="1",
        MILLRACE_LIMITS__HANDSHAKE="2",
        MILLRACE_LIMITS__REFUSALS_PER_MINUTE="2",
    ) as gateway:
        yield gateway


def header(client: str, *, tlvs: bytes = b"", command: int = 1) -> bytes:
    """A PROXY v2 header for a TCP connection of `client`."""
    address = ipaddress.ip_address(client)
    there = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    body = address.packed + there.packed + (40000).to_bytes(2, "big") + (1935).to_bytes(2, "big") + tlvs
    family = 0x11 if address.version == 4 else 0x21
    return SIGNATURE + bytes([0x20 | command, family]) + len(body).to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


@pytest.mark.parametrize("secure", [False, True], ids=["RTMP", "RTMPS"])
@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.8"])
async def test_the_publisher_has_the_address_of_the_proxy_header(gateway: Gateway, client: str, secure: bool) -> None:
    channel = gateway.channel()
    port, tls = gateway.ports["rtmps" if secure else "rtmp"], trusting_anyone() if secure else None
    tlvs = tlv(0x01, b"h2") + tlv(0x20, bytes(100)) + tlv(0xE0, bytes(3000))
    async with connected(port, first=header(client, tlvs=tlvs), source=LISTED, tls=tls) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
        await peer.headers()
        await peer.film(range(0, 700, 33))
        channel.wait_live()
        publisher = channel.session()["publisher"]
        assert publisher["address"] == client.removeprefix("::ffff:")
        assert publisher["protocol"] == ("rtmps" if secure else "rtmp")


async def test_rtmp_data_in_the_packet_of_the_proxy_header_is_kept(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"], source=LISTED, first=header("192.0.2.9") + b"\3" + bytes(3072)) as peer:
        await peer.need(3073)
        await peer.connect()


async def test_a_proxy_header_may_arrive_byte_by_byte(gateway: Gateway) -> None:
    async with connected(gateway.ports["rtmp"], source=LISTED) as peer:
        for byte in header("192.0.2.10", tlvs=tlv(4, b"\0" * 20)):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.001)
        await peer.handshake()
        await peer.connect()


async def test_limits_apply_to_the_address_of_the_proxy_header(gateway: Gateway) -> None:
    one, other = gateway.channel(), gateway.channel()
    port = gateway.ports["rtmp"]

    async def code(client: str, key: str) -> str:
        async with connected(port, source=LISTED, first=header(client)) as peer:
            return (await peer.publish(key)).code

    async with connected(port, source=LISTED, first=header("198.51.100.1")) as peer:
        await peer.publish(one.obs_key)
        assert await code("198.51.100.1", other.obs_key) == "NetStream.Publish.Failed"
        assert await code("198.51.100.2", other.obs_key) == STARTED
    for _ in range(2):
        assert await code("198.51.100.3", f"{one.id}?sign=guess") == "NetStream.Publish.Unauthorized"
    with pytest.raises((ConnectionError, EOFError)):
        await code("198.51.100.3", f"{one.id}?sign=guess")
    assert await code("198.51.100.2", one.obs_key) == STARTED


async def test_a_listed_proxy_without_a_client_address_is_not_limited(gateway: Gateway) -> None:
    unspec = SIGNATURE + b"\x21\x00\x00\x00"
    port = gateway.ports["rtmp"]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            peer = await stack.enter_async_context(connected(port, source=LISTED, first=unspec))
            assert (await peer.publish(gateway.channel().obs_key)).code == STARTED


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"\3" + bytes(1536), id="none"),
        pytest.param(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", id="v1"),
        pytest.param(SIGNATURE + b"\x11\x11\0\x0c" + bytes(12), id="version 1"),
        pytest.param(SIGNATURE + b"\x22\x11\0\x0c" + bytes(12), id="unknown command"),
        pytest.param(SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), id="shorter than its addresses"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff" + bytes(60_000), id="64 kB of it"),
    ],
)
async def test_a_malformed_proxy_header_closes_the_connection(gateway: Gateway, first: bytes) -> None:
    async with connected(gateway.ports["rtmp"], source=LISTED, first=first) as peer:
        assert await peer.closed(1.8)
        assert not peer.heard


async def test_slow_and_silent_proxies_are_closed_in_time(gateway: Gateway) -> None:
    """All cases run at the same time. The header, TLS and the handshake have limits of their own."""

    async def closed(first: bytes, port: str) -> bool:
        async with connected(gateway.ports[port], source=LISTED, first=first) as peer:
            return await peer.closed()

    whole = header("192.0.2.20")
    results = await asyncio.gather(
        closed(whole[:10], "rtmp"),
        closed(whole[:20], "rtmp"),
        closed(b"", "rtmp"),
        closed(whole, "rtmp"),
        closed(whole, "rtmps"),
        closed(whole + b"\x16\x03\x01", "rtmps"),
        closed(whole + b"\3" + bytes(1536), "rtmps"),
    )
    assert results == [True] * 7
    lines = [line for line in gateway.log.splitlines() if "192.0.2.20" in line]
    assert len(lines) <= 2, f"one line each at most: {lines}"


async def test_health_checks_are_not_logged(gateway: Gateway) -> None:
    before = len([line for line in gateway.log.splitlines() if "refused" in line])
    for first in (SIGNATURE + b"\x20\x00\x00\x00", header("192.0.2.1", command=0), b""):
        async with connected(gateway.ports["rtmp"], source=LISTED, first=first) as peer:
            if not first:
                peer.writer.write_eof()
            assert await peer.closed(1.8)
    assert len([line for line in gateway.log.splitlines() if "refused" in line]) == before


async def test_an_unlisted_peer_needs_no_proxy_header_and_may_send_none(gateway: Gateway) -> None:
    channel = gateway.channel()
    async with connected(gateway.ports["rtmp"], source=STRANGER) as peer:
        assert (await peer.publish(channel.obs_key)).code == STARTED
    async with connected(gateway.ports["rtmp"], source=STRANGER, first=header("192.0.2.1")) as peer:
        assert await peer.closed(1.8)
        assert not peer.heard
    async with connected(gateway.ports["rtmps"], source=STRANGER, tls=trusting_anyone()) as peer:
        await peer.handshake()
        await peer.connect()


# ---- real programs ----


@pytest.mark.parametrize("secure", [*at_night(False), True], ids=["RTMP", "RTMPS"])
def test_ffmpeg_can_push_through_haproxy(gateway: Gateway, tmp_path: Path, secure: bool) -> None:
    need("haproxy", "ffmpeg", "ffprobe")
    channel = gateway.channel()
    scheme = "rtmps" if secure else "rtmp"
    config = tmp_path / "haproxy.cfg"
    # The balancer does not accept port 0, so the test finds a free port just before.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.write_text(
        f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen rtmp
    bind 127.0.0.1:{port}
    source {LISTED}
    server gateway 127.0.0.1:{gateway.ports[scheme]} send-proxy-v2 check check-send-proxy inter 200ms
"""
    )
    check = subprocess.run(["haproxy", "-c", "-f", str(config)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    refusals = gateway.log.count("refused")
    with Program(["haproxy", "-db", "-f", str(config)]):
        until(lambda: _accepts(port), "HAProxy takes connections", 5)
        with push(PLAIN, f"{scheme}://127.0.0.1:{port}/stream/{channel.obs_key}") as pushing:
            channel.wait_live()
            session = channel.session()
            assert session["publisher"]["address"] == "127.0.0.1", "the client's, not the balancer's"
            assert session["publisher"]["protocol"] == scheme
            assert set(probe(f"http://127.0.0.1:{gateway.ports['http']}/{channel.id}/live.flv")) == {"video", "audio"}
            assert pushing.running, pushing.errors
    assert gateway.log.count("refused") == refusals, "health checks count nowhere"


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_the_log_contains_no_internal_error(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log
