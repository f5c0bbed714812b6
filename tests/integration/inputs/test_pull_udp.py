"""Transport streams over UDP and RTP: unicast, multicast, packets in any order, and the policy."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from pathlib import Path

import pytest

from gateway.media.track import Kind
from tests.support import clients
from tests.support.at_night import at_night
from tests.support.free_ports import free_port
from tests.support.gateway import Gateway
from tests.support.inputs import FakeInput
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.ts_senders import LOOPBACK, check_media, failure, film, pulling, send

GROUP, OTHER_GROUP = "239.255.77.1", "232.77.1.1"
MULTICAST = ("239.0.0.0/8", "232.0.0.0/8")

gateway = shared_gateway("ffmpeg", MILLRACE_EGRESS__ALLOW="127.0.0.0/8")


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence ends a pull after two seconds instead of ten."""
    monkeypatch.setattr("gateway.inputs.pull.program_output.SILENCE_SECONDS", 2.0)
    monkeypatch.setattr("gateway.inputs.pull.pull_parts.KEY_FRAME_SECONDS", 2.0)


def send_udp(port: int, *how: str, host: str = "127.0.0.1", loop: bool = False) -> clients.Program:
    return send(f"udp://{host}:{port}?pkt_size=1316&ttl=0", *how, loop=loop)


@pytest.mark.parametrize(
    "form", [*at_night("udp://127.0.0.1:{}", "udp://@127.0.0.1:{}"), "udp://127.0.0.1@127.0.0.1:{}"]
)
async def test_a_stream_over_udp_is_pulled_unchanged(form: str) -> None:
    port = free_port()
    async with pulling(form.format(port)) as context:
        with send_udp(port):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 45)
    check_media(context)


async def test_datagrams_that_cut_the_packets_are_read() -> None:
    port = free_port()
    async with pulling(f"udp://127.0.0.1:{port}") as context:
        with send(f"udp://127.0.0.1:{port}"):  # 1,472 bytes each
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 45)
    check_media(context)


async def test_a_stream_over_rtp_is_pulled_unchanged() -> None:
    port = free_port()
    async with pulling(f"rtp://127.0.0.1:{port}") as context:
        with send(f"rtp://127.0.0.1:{port}", container="rtp_mpegts"):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 45)
    check_media(context)


async def test_the_last_picture_of_a_pull_that_is_stopped_is_not_cut(tmp_path: Path) -> None:
    """Packets end in the middle of a picture, and the pull ends too."""
    port, packets = free_port(), rtp_packets(tmp_path, first=0)
    for end in range(60, 68):
        async with pulling(f"rtp://127.0.0.1:{port}") as context:
            await until_open(port)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for packet in packets[:end]:
                    sender.sendto(packet, ("127.0.0.1", port))
                    await asyncio.sleep(0)
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 20)
        check_media(context, least=20)


def rtp_packets(folder: Path, *, first: int, ssrc: int = 7) -> list[bytes]:
    """The film as RTP packets. first: number of the first one."""
    path = folder / "film.ts"
    with clients.Program(["ffmpeg", "-v", "error", "-y", "-i", str(film()), "-c", "copy", str(path)]) as program:
        program.wait()
    stream = path.read_bytes()
    return [
        b"\x80\x21"
        + (first + n & 0xFFFF).to_bytes(2, "big")
        + bytes(4)
        + ssrc.to_bytes(4, "big")
        + stream[at : at + 1316]
        for n, at in enumerate(range(0, len(stream), 1316))
    ]


async def until_open(port: int) -> None:
    """Waits until the pull has bound its port."""
    async with asyncio.timeout(at_most(10)):
        while not _is_bound(port):
            await asyncio.sleep(0)


def _is_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


async def test_packets_in_the_wrong_order_and_twice_are_put_in_order(tmp_path: Path) -> None:
    port, packets = free_port(), rtp_packets(tmp_path, first=65_500)  # the numbers wrap
    chance = random.Random(3)
    keyed = sorted(range(1, len(packets)), key=lambda n: n + chance.uniform(0, 12))
    async with pulling(f"rtp://127.0.0.1:{port}") as context:
        await until_open(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for n in (0, *keyed):
                for _ in range(1 + (n % 5 == 0)):
                    sender.sendto(packets[n], ("127.0.0.1", port))
                await asyncio.sleep(0)
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 48)
    check_media(context, least=48)


async def test_a_sender_that_starts_again_with_other_numbers_is_followed(tmp_path: Path) -> None:
    port = free_port()
    async with pulling(f"rtp://127.0.0.1:{port}") as context:
        await until_open(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for ssrc, first, least in ((7, 100, 48), (8, 90, 96)):
                for packet in rtp_packets(tmp_path, first=first, ssrc=ssrc):
                    sender.sendto(packet, ("127.0.0.1", port))
                    await asyncio.sleep(0)
                await context.recorder.until(lambda least=least: len(context.recorder.of(Kind.VIDEO)) >= least)  # type: ignore[misc]


async def test_a_second_sender_does_not_disturb_the_first(tmp_path: Path) -> None:
    port = free_port()
    async with pulling(f"udp://127.0.0.1:{port}") as context:
        with send_udp(port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 10)
            for _ in range(200):
                stranger.sendto(bytes([0x47, 0x41, 0, 0x10]) + bytes(1312), ("127.0.0.1", port))
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 45)
    check_media(context)


async def test_a_sender_that_returns_is_followed() -> None:
    port = free_port()
    async with pulling(f"udp://127.0.0.1:{port}") as context:
        with send_udp(port):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 25)
        before = len(context.recorder.of(Kind.VIDEO))
        with send_udp(port, loop=True):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= before + 20)
    assert len(context.recorder.tracks) == 1


async def test_a_source_that_is_not_asked_for_is_not_taken() -> None:
    port = free_port()
    context = FakeInput()
    with send_udp(port, loop=True):
        assert await failure(f"udp://127.0.0.9@127.0.0.1:{port}", context=context) == "no media for 2 s"
    assert not context.peers


# ---- multicast; a time to live of 0 keeps it on this machine ----


def multicast_works() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + bytes(4))
        except OSError:
            return False
    return True


def own_address() -> str:
    """The address of this machine from which its multicast goes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect((GROUP, 9))
        return str(opened.getsockname()[0])


needs_multicast = pytest.mark.skipif(not multicast_works(), reason="no route for multicast")


@needs_multicast
async def test_a_group_is_joined_by_several_channels() -> None:
    port = free_port()
    async with pulling(f"udp://@{GROUP}:{port}", MULTICAST) as one, pulling(f"udp://{GROUP}:{port}", MULTICAST) as two:
        with send_udp(port, host=GROUP):
            for context in (one, two):
                await context.recorder.until(lambda c=context: len(c.recorder.of(Kind.VIDEO)) >= 45)  # type: ignore[misc]
    check_media(one)
    check_media(two)


@needs_multicast
async def test_only_the_source_of_a_group_is_taken() -> None:
    port = free_port()
    async with pulling(f"udp://{own_address()}@{OTHER_GROUP}:{port}", MULTICAST) as context:
        with send_udp(port, host=OTHER_GROUP):
            await context.recorder.until(lambda: len(context.recorder.of(Kind.VIDEO)) >= 45)
    check_media(context)
    with send_udp(port, host=OTHER_GROUP, loop=True):
        assert await failure(f"udp://192.0.2.99@{OTHER_GROUP}:{port}", MULTICAST) == "no media for 2 s"


# ---- errors ----


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("udp://127.0.0.1:5000", ()),
        ("udp://0.0.0.0:5000", LOOPBACK),
        ("udp://239.1.2.3:5000", LOOPBACK),
        ("udp://127.0.0.1:5000", ("udp://127.0.0.1:5001", "rtp://127.0.0.1:5000")),
    ],
)
async def test_an_address_that_is_not_listed_is_not_opened(url: str, allow: tuple[str, ...]) -> None:
    assert (await failure(url, allow)).endswith("receiving there is not allowed (egress.allow)")


async def test_one_port_may_be_listed() -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    assert await failure(address, (address,)) == "no media for 2 s"


async def test_a_port_in_use_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        port = other.getsockname()[1]
        text = await failure(f"udp://127.0.0.1:{port}")
    assert text == f"127.0.0.1:{port} cannot be received: address already in use"


@pytest.mark.parametrize(
    ("url", "datagram", "words"),
    [
        (
            "udp://127.0.0.1:{}",
            bytes(1316),
            "The pictures cannot be used: the data are of an unknown kind instead of MPEG-TS.",
        ),
        ("udp://127.0.0.1:{}", bytes(4000), "its datagrams are too long: send at most 2047 bytes"),
        ("rtp://127.0.0.1:{}", b"\x80\x60" + bytes(1200), "its packets are no RTP with MPEG-TS (payload type 33)"),
    ],
)
async def test_other_datagrams_are_named(url: str, datagram: bytes, words: str) -> None:
    port = free_port()
    command = (
        "import socket, sys, time\n"
        "opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "while True:\n"
        f"    opened.sendto({datagram!r}, ('127.0.0.1', {port}))\n"
        "    time.sleep(0.01)\n"
    )
    with clients.Program(["python3", "-c", command]):
        assert await failure(url.format(port)) == words


def test_the_api_checks_addresses(gateway: Gateway) -> None:
    channel = gateway.channel()
    for url, words in (
        ("udp://127.0.0.1:53", "port"),
        ("udp://@:5000", "IP address"),
        ("rtp://239.1.1.1:5000?ttl=3", "without parameters"),
        ("srt://127.0.0.1?streamid=x", "expected srt://"),
    ):
        reply = gateway.api("PUT", f"/videostream/{channel.id}/inputs", [{"name": "p", "kind": "pull", "url": url}])
        assert reply.status == 400 and words in reply.text, (url, reply.text)


def test_a_channel_is_fed_over_udp(gateway: Gateway) -> None:
    port = free_port()
    channel = gateway.channel()
    item = {"name": "p", "kind": "pull", "url": f"udp://@127.0.0.1:{port}", "always": True}
    assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", [item]).status == 200
    with send_udp(port, loop=True):
        channel.wait_live()
        channel.wait_playable("live.m3u8")
