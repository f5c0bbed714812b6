"""SRT and SRTLA over thin links of real sockets: what is lost on the way arrives in time.

`tests/unit/protocols/srt` and `tests/unit/srt` judge by simulated time how much latency is enough, for ten minutes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clients import Program, found, pull, take_of, until
from tests.support.free_ports import free_port
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film, excerpt, framehash_command, made_once
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import SRTLA_SEND, call, srt_push, thin_link
from tests.support.srtla_sender import SrtlaSender

FILM = Film("srt-links", seconds=10)
ROUND_TRIP = 0.2  # seconds: on a busy machine a process waits for less than that
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
Sender = Callable[[int, int, Path], contextlib.AbstractContextManager[None]]

LONG = 120  # seconds
ENOUGH = 2.0  # seconds of latency, also for a machine that is busy

gateway = shared_gateway("ffmpeg", films=[FILM], MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0", MILLRACE_STREAM__LINGER="1")


def push_id(channel: Channel) -> str:
    return f"publish:{channel.id}?sign={channel.key}"


def ts(film: Film) -> bytes:
    return made_once("ts", ["ffmpeg", "-i", str(film.path()), "-c", "copy", "-f", "mpegts"]).read_bytes()


def recorded(gateway: Gateway, channel: Channel) -> list[str]:
    """The pictures of the recording of a channel whose push has ended."""
    folder = gateway.data / "media" / channel.id
    until(lambda: found(folder, "*.mp4") and not found(folder, "*.fmp4"), "the recording is finished", 60)
    movies: list[Path] = found(folder, "*.mp4")
    digests = []
    for movie in movies:
        with Program(framehash_command(movie)) as program:
            digests += [frame.digest for frame in take_of(program).video]
    return digests


def lost_through(gateway: Gateway, loss: float, latency: float, seconds: float) -> float:
    """Pushes through a link that loses in both directions. Returns the share of pictures that did not come, in percent.

    The film begins again after its end, and its clock jumps.
    """
    channel = gateway.channel("loss", isVideo=True, video_time="3600", isFlv=False, isHls=False, isCMAF=False)
    stream, turns = ts(FILM), max(1, round(seconds / FILM.seconds))
    with (
        thin_link(gateway.ports["srt"], loss=loss, delay=1000 * ROUND_TRIP / 2, jitter=2, seed=5) as link,
        call(link.port, push_id(channel), latency=latency, timeout=30) as peer,
    ):
        for _ in range(turns):
            peer.play(stream, FILM.seconds)
        peer.run(latency + 0.5)
        assert peer.connection is not None
        assert peer.connection.sent.retransmitted > loss / 100 * turns * FILM.seconds * 20, "the link loses"
    wanted = [frame.digest for frame in FILM.hashes().video]
    return 100 * (1 - len(recorded(gateway, channel)) / (turns * len(wanted)))


@pytest.mark.nightly
def test_nothing_is_lost_at_20_percent(gateway: Gateway) -> None:
    assert lost_through(gateway, 20, 20 * ROUND_TRIP, FILM.seconds) == 0


@pytest.mark.nightly
def test_nothing_is_lost_at_10_percent_with_six_round_trips(gateway: Gateway) -> None:
    assert lost_through(gateway, 10, 6 * ROUND_TRIP, LONG) == 0


@pytest.mark.nightly
def test_nearly_nothing_is_lost_at_20_percent_with_ten_round_trips(gateway: Gateway) -> None:
    assert lost_through(gateway, 20, 10 * ROUND_TRIP, LONG) < 0.1


@pytest.mark.nightly
def test_ffmpeg_as_player_gets_everything_at_5_percent(gateway: Gateway) -> None:
    channel = gateway.channel("player")
    with (
        thin_link(gateway.ports["srt"], loss=5, delay=10, seed=3) as link,
        srt_push(FILM, channel.srt_push, loop=True),
    ):
        channel.wait_live()
        url = f"srt://127.0.0.1:{link.port}?streamid=read:{channel.id}&latency={ENOUGH * 1e6:.0f}"
        with pull(url, seconds=6) as player:
            take = take_of(player)
    digests = [frame.digest for frame in FILM.hashes().video]
    excerpt([frame.digest for frame in take.video], digests * 2, least=150)


# ---- SRTLA ----


@contextlib.contextmanager
def own_sender(listen: int, port: int, folder: Path) -> Iterator[None]:
    with SrtlaSender(port, *ADDRESSES, listen=listen):
        yield


@contextlib.contextmanager
def belabox(listen: int, port: int, folder: Path) -> Iterator[None]:
    if not os.access(SRTLA_SEND, os.X_OK):
        pytest.skip("srtla_send of BELABOX is not built: SRTLA_SEND names it")
    (folder / "addresses").write_text("".join(f"{address}\n" for address in ADDRESSES))
    with Program([SRTLA_SEND, str(listen), "127.0.0.1", str(port), str(folder / "addresses")]):
        yield


@pytest.mark.parametrize("sender", [own_sender, belabox])
@pytest.mark.parametrize("seconds", [FILM.seconds, pytest.param(LONG, marks=pytest.mark.nightly)])
def test_nothing_is_lost_while_one_of_three_links_dies(
    seconds: float, sender: Sender, gateway: Gateway, tmp_path: Path
) -> None:
    """One link is down for five seconds of each eight; all lose 1 % and bring packets out of order."""
    channel = gateway.channel("bonded", isVideo=True, video_time="3600", isFlv=False, isHls=False, isCMAF=False)
    stream, turns, listen = ts(FILM), max(1, round(seconds / FILM.seconds)), free_port()
    conditions = {"delay": 10, "jitter": 10, "loss": 1, "kill": 8, "down": 5, "only": ADDRESSES[1], "seed": 4}
    with (
        thin_link(gateway.ports["srtla"], **conditions) as link,
        sender(listen, link.port, tmp_path),
        call(listen, push_id(channel), latency=ENOUGH, timeout=30) as peer,
    ):
        for _ in range(turns):
            peer.play(stream, FILM.seconds)
        peer.run(ENOUGH + 0.5)
    wanted = [frame.digest for frame in FILM.hashes().video]
    assert len(recorded(gateway, channel)) == turns * len(wanted)
