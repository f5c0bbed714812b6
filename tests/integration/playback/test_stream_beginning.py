"""Waiting viewers get the stream from its first frame, also if a publisher sends everything at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.sync.client import connect

from gateway.formats.flv import muxer
from gateway.formats.flv.tag import SCRIPT
from tests.integration.proxy.test_edge import farm
from tests.support.clients import Program, pull, take_of, until
from tests.support.cores import Cores
from tests.support.flv_reader import FlvReader
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film, Take
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("at-once", seconds=4)  # four GOPs
OTHER = Film("at-once-other", seconds=2, size="352x200")
pytestmark = pytest.mark.usefixtures("tools")


@pytest.fixture(scope="module")
def tools() -> None:
    need("ffmpeg")


def joined(*films: Film) -> bytes:
    """Returns the films one after the other, as FLV in which pictures change their size."""
    pieces, offset = [muxer.file_header(True, True)], 0
    for film in films:
        tags = [tag for tag in FlvReader().receive(film.path().read_bytes()) if tag.type_id != SCRIPT]
        pieces += [muxer.tag(tag.type_id, tag.timestamp + offset, tag.payload) for tag in tags]
        offset += film.seconds * 1000 + 100
    return b"".join(pieces)


def pushed(file: Path, url: str, *more: str) -> None:
    """Pushes the film as fast as the connection allows, or with `-re` in real time."""
    command = ["ffmpeg", "-nostdin", "-v", "error", *more, "-i", str(file), "-c", "copy", "-f", "flv", url]
    subprocess.run(command, check=True, timeout=at_most(60))


def connections(*ports: int) -> int:
    """Returns the number of established connections to these local ports."""
    wanted = {f"{port:04X}" for port in ports}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[3] == "01" and line.split()[1].rpartition(":")[2] in wanted for line in lines)


def whole(take: Take, *films: Film) -> None:
    """Checks that the take has every frame of the films, in order."""
    sources = [film.hashes() for film in films]
    assert [frame.digest for frame in take.video] == [frame.digest for source in sources for frame in source.video]
    assert [frame.digest for frame in take.audio] == [frame.digest for source in sources for frame in source.audio]


@contextlib.contextmanager
def waiting(*urls: str) -> Iterator[list[Program]]:
    """Starts players that wait, and then read until the stream ends."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(pull(url, seconds=None)) for url in urls]


def judged(
    channel: Channel, urls: list[str], ready: Callable[[], bool], *more: str, changing: Path | None = None
) -> None:
    """Checks that waiting players get the whole push.

    changing: the file of `FILM` and `OTHER`, or None to push `FILM`.
    """
    with waiting(*urls) as players:
        until(ready, "the players are connected")
        pushed(FILM.path() if changing is None else changing, channel.push, *more)
        for player in players:
            whole(take_of(player), FILM, *(() if changing is None else (OTHER,)))


gateway = shared_gateway(MILLRACE_STREAM__LINGER="1")


@pytest.mark.parametrize(
    "more", [(), pytest.param(("-re",), marks=pytest.mark.nightly)], ids=["at once", "in real time"]
)
def test_waiting_viewers_of_the_gateway_get_the_whole_stream(gateway: Gateway, more: tuple[str, ...]) -> None:
    channel = gateway.channel()
    ports = (gateway.ports["http"], gateway.ports["rtmp"])
    urls = [channel.url("live.flv"), channel.url("live.flv"), channel.rtmp, channel.rtmp]
    judged(channel, urls, lambda: connections(*ports) >= 4, *more)


def test_waiting_viewers_over_websockets_get_the_whole_stream(gateway: Gateway, tmp_path: Path) -> None:
    channel, told = gateway.channel(), tmp_path / "told.flv"
    url = channel.url("live.flv").replace("http://", "ws://")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_messages, url)
        until(lambda: connections(gateway.ports["http"]) >= 1, "the player is connected")
        pushed(FILM.path(), channel.push)
        told.write_bytes(reading.result(at_most(60)))
    with pull(str(told), seconds=None) as player:
        whole(take_of(player), FILM)


def _messages(url: str) -> bytes:
    """The bytes of a WS-FLV stream until its end."""
    with connect(url, max_size=None, open_timeout=at_most(30)) as socket:
        return b"".join(piece for piece in socket if isinstance(piece, bytes))


def test_waiting_viewers_of_an_edge_and_another_gateway_get_the_whole_stream(tmp_path: Path) -> None:
    with farm(tmp_path, linger=1) as lab:
        channel = lab.a.channel()
        ports = [port for one in (lab.b, lab.edge) for port in (one.ports["http"], one.ports["rtmp"])]
        urls = [f"http://127.0.0.1:{one.ports['http']}/{channel.id}/live.flv" for one in (lab.b, lab.edge)]
        urls += [f"rtmp://127.0.0.1:{one.ports['rtmp']}/stream/{channel.id}" for one in (lab.b, lab.edge)]
        judged(channel, urls, lambda: connections(*ports) >= 4)
        other = lab.a.channel()
        urls = [url.replace(channel.id, other.id) for url in urls]
        file = tmp_path / "changing.flv"
        file.write_bytes(joined(FILM, OTHER))
        judged(other, urls, lambda: connections(*ports) >= 4, changing=file)


@pytest.mark.skipif(sys.platform != "linux", reason="several processes share a port on Linux alone")
def test_waiting_viewers_of_every_worker_process_get_the_whole_stream(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 2, MILLRACE_STREAM__LINGER="1")
    try:
        gateway.wait_ready()
        gateway.wait_workers("1", "2")
        channel = gateway.channel()
        urls = [channel.url("live.flv")] * 4 + [channel.rtmp] * 2
        ports = (gateway.ports["http"], gateway.ports["rtmp"])
        judged(channel, urls, lambda: connections(*ports) >= 6)
    finally:
        gateway.stop(10)
