"""Start and end of the program: signals, exit codes, and one-line errors for the operator."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.clients import until
from tests.support.command_line import run
from tests.support.gateway import ANY_PORTS, Channel, Gateway, http
from tests.support.rtmp import VIDEO, Peer, all_tls_ports, connected, picture, self_signed
from tests.support.time_outs import at_most
from tests.support.tools import need

STARTED = "NetStream.Publish.Start"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    """Starts gateways, each in a folder of its own, and ends what a test leaves running."""
    started: list[Gateway] = []

    def start(**settings: str) -> Gateway:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        gateway = Gateway(folder, **settings)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield start
    for gateway in started:
        with contextlib.suppress(AssertionError):
            gateway.stop(10)


async def _live(gateway: Gateway, stack: contextlib.AsyncExitStack) -> tuple[Channel, Peer]:
    channel = gateway.channel()
    peer = await stack.enter_async_context(connected(gateway.ports["rtmp"]))
    assert (await peer.publish(channel.obs_key)).code == STARTED
    await peer.chunk_size(65536)
    await peer.settle(3)  # the packagers have begun: a burst of many GOPs finds them attached
    await peer.headers()
    await peer.film(range(0, 3000, 40), gop=25)
    channel.wait_playable("live.m3u8", "master.m3u8")
    return channel, peer


async def _deaf_player(stack: contextlib.AsyncExitStack, channel: Channel, peer: Peer) -> None:
    """Joins an RTMP player that reads nothing, and pushes 10 MB for it."""
    deaf = await stack.enter_async_context(connected(channel.gateway.ports["rtmp"]))
    await deaf.play(channel.id)
    deaf.stop_reading()
    for n in range(75, 175):
        await peer.body(VIDEO, picture(n, n % 25 == 0, size=100_000), n * 40)


async def _exit_code(gateway: Gateway, within: float) -> int:
    return await asyncio.to_thread(gateway.process.wait, within)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_disconnects_all_clients_and_ends_the_program_soon(start, number: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    gateway = start()
    async with contextlib.AsyncExitStack() as stack:
        channel, peer = await _live(gateway, stack)
        player = await stack.enter_async_context(connected(gateway.ports["rtmp"]))
        await player.play(channel.id)
        waiting = await stack.enter_async_context(connected(gateway.ports["rtmp"]))
        await waiting.handshake()
        await waiting.connect()
        await waiting.command("play", 5, None, gateway.channel().id, stream=1)
        silent = await stack.enter_async_context(connected(gateway.ports["rtmp"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["http"])
        writer.write(f"GET /{channel.id}/live.flv HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"FLV")

        async def keeps_sending() -> None:
            for n in range(2000):
                with contextlib.suppress(ConnectionError):
                    await peer.film([3000 + n * 10], number=75 + n)
                await asyncio.sleep(0.01)

        sending = asyncio.ensure_future(keeps_sending())
        gateway.process.send_signal(number)
        began = time.monotonic()
        told = await peer.until(timeout=5)
        assert (told.level, told.code) == ("error", "NetStream.Publish.Failed")
        assert "shutting down" in told.info["description"]
        assert (await player.until("NetStream.Play.UnpublishNotify", timeout=5)).level == "status"
        assert await peer.closed()
        assert await player.closed()
        assert await waiting.closed()
        assert await silent.closed()
        rest = await asyncio.wait_for(reader.read(), at_most(5))
        assert rest.endswith(b"0\r\n\r\n"), "the FLV viewer gets a whole answer"
        assert await _exit_code(gateway, 10) == 0
        assert time.monotonic() - began < at_most(6)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    assert "Traceback" not in gateway.log
    assert '"level":"error"' not in gateway.log


def test_a_reload_of_a_single_process_is_refused_with_an_explanation(start) -> None:  # type: ignore[no-untyped-def]
    gateway = start()
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: "serve.workers" in gateway.log, "it says what to do")
    assert gateway.api("GET", "/videostream").status == 200
    assert gateway.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_closed_terminal_ends_the_program_and_a_reload_in_a_terminal_does_not(tmp_path: Path, workers: int) -> None:
    need("setsid")
    udp = {f"MILLRACE_{name}": "0" for name in ("SRT__PORT", "SRT__SRTLA_PORT", "WEBRTC__PORT")}
    env = _environment(tmp_path / "data", **udp, MILLRACE_SERVE__WORKERS=str(workers))
    command = ["setsid", "--ctty", sys.executable, "-m", "gateway", "serve"]
    outer, inner = os.openpty()
    log = tmp_path / "log"
    with log.open("wb") as output:
        gateway = subprocess.Popen(command, env=env, cwd=ROOT, stdin=inner, stdout=output, stderr=output)
    os.close(inner)
    try:
        until((tmp_path / "data" / "ports.json").exists, "it is ready", 60)
        gateway.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP replaces" in log.read_text() or '"event":"reloaded"' in log.read_text(), "it says so", 60)
        assert gateway.poll() is None
        os.close(outer)
        gateway.send_signal(signal.SIGHUP)  # as a shell does
        assert gateway.wait(at_most(60)) == 0
    finally:
        gateway.kill()
        gateway.wait()


def test_a_stop_signal_before_the_imports_is_not_lost(tmp_path: Path) -> None:
    program = "import os, signal, sys; from gateway import __main__ as program; hold = program.held_signals.hold; "
    program += "program.held_signals.hold = lambda: (hold(), os.kill(os.getpid(), signal.SIGTERM)); "
    program += "sys.exit(program.main(['serve']))"
    done = _ends(tmp_path, command=("-c", program))
    assert done.returncode == 0, done.stderr
    assert "stopped while it started" in done.stderr
    assert not (tmp_path / "ports.json").exists()


async def test_a_second_signal_ends_at_once(start) -> None:  # type: ignore[no-untyped-def]
    gateway = start()
    async with contextlib.AsyncExitStack() as stack:
        channel, peer = await _live(gateway, stack)
        await _deaf_player(stack, channel, peer)
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: "shutting down" in gateway.log, "the first signal was heard", 5)
        gateway.process.send_signal(signal.SIGTERM)
        assert await _exit_code(gateway, 1) in (128 + signal.SIGTERM, 0)


async def test_no_connection_is_accepted_during_the_shutdown(start) -> None:  # type: ignore[no-untyped-def]
    """This holds with and without our own accept loop, which the PROXY protocol needs."""
    for settings in ({}, {"MILLRACE_RTMP__PROXY_FROM": "192.0.2.1"}):
        gateway = start(**settings)
        async with contextlib.AsyncExitStack() as stack:
            channel, peer = await _live(gateway, stack)
            await _deaf_player(stack, channel, peer)
            gateway.process.send_signal(signal.SIGTERM)
            assert await peer.closed()
            with socket.socket() as late:
                late.settimeout(1)
                with contextlib.suppress(ConnectionError, TimeoutError):
                    late.connect(("127.0.0.1", gateway.ports["rtmp"]))
                    late.sendall(b"\3" + bytes(1536))
                    assert late.recv(1) == b"", "it was answered"
            assert await _exit_code(gateway, 10) == 0


def test_ports_json_contains_the_open_ports(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gateway = start(**all_tls_ports(tmp_path))
    ports = json.loads((gateway.data / "ports.json").read_text())
    names = ("rtmp", "rtmps", "http", "https", "ws", "wss", "srt", "srtla", "rtsp", "rtsps", "webrtc", "moq", "admin")
    assert set(ports) == set(names)
    for name in ("rtmp", "rtmps", "http", "https", "admin"):
        with socket.create_connection(("127.0.0.1", ports[name]), 2):
            pass
    plain = start()
    assert (plain.ports["rtmps"], plain.ports["https"], plain.ports["wss"]) == (None, None, None)
    assert http("GET", f"http://127.0.0.1:{plain.ports['http']}/healthcheck").text == "OK"


def _environment(folder: Path, **settings: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return env | ANY_PORTS | {"MILLRACE_DATA": str(folder), **settings}


def _ends(
    folder: Path, *arguments: str, command: Sequence[str] = (), **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs the program, which must end by itself."""
    env = _environment(folder, **settings)
    if not command:
        return run("serve", *arguments, env=env)
    program = [sys.executable, *command, *arguments]
    return subprocess.run(program, env=env, cwd=ROOT, capture_output=True, text=True, timeout=at_most(60), check=False)


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("name", ["RTMP", "HTTP", "ADMIN"])
def test_a_port_in_use_gives_a_one_line_error(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        _one_line(_ends(tmp_path / "data", **{f"MILLRACE_{name}__PORT": port}), 1, name.lower(), port, "in use")
    assert not (tmp_path / "data" / "ports.json").exists()


def test_a_corrupt_database_gives_a_one_line_error_and_stays_unchanged(tmp_path: Path) -> None:
    database = tmp_path / "millrace.db"
    database.write_bytes(b"this is no database, and somebody may want it back" * 100)
    before = database.read_bytes()
    _one_line(_ends(tmp_path), 1, "millrace.db")
    assert database.read_bytes() == before


def test_a_database_that_cannot_be_opened_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "millrace.db").mkdir()
    _one_line(_ends(tmp_path), 1, "millrace.db")


def test_the_database_of_another_program_gives_a_one_line_error(tmp_path: Path) -> None:
    import sqlite3

    with contextlib.closing(sqlite3.connect(tmp_path / "millrace.db")) as database:
        database.execute("CREATE TABLE theirs (x)")
        database.commit()
    _one_line(_ends(tmp_path), 1, "another program")


def test_an_unusable_certificate_gives_a_one_line_error(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path)
    settings = {"MILLRACE_TLS__CERT": str(cert), "MILLRACE_TLS__KEY": str(key)}
    cert.write_text("hello")
    _one_line(_ends(tmp_path / "data", **settings), 1, "cert.pem")
    cert.unlink()
    _one_line(_ends(tmp_path / "data", **settings), 2, "cert.pem", "No such file")
    cert.mkdir()
    _one_line(_ends(tmp_path / "data", **settings), 2, "cert.pem", "directory")


def test_a_data_folder_that_cannot_be_created_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        _one_line(_ends(folder), 1, str(folder))


def test_an_address_of_another_machine_gives_a_one_line_error(tmp_path: Path) -> None:
    _one_line(_ends(tmp_path, MILLRACE_RTMP__HOST="192.0.2.1"), 1, "192.0.2.1")


def test_an_invalid_configuration_gives_a_one_line_error_and_exit_code_2(tmp_path: Path) -> None:
    _one_line(_ends(tmp_path, MILLRACE_RTMP__PRT="1935"), 2, "MILLRACE_RTMP__PRT", "MILLRACE_RTMP__PORT")
    _one_line(_ends(tmp_path, MILLRACE_RTMP__IDLE_TIMEOUT="many"), 2, "MILLRACE_RTMP__IDLE_TIMEOUT")
    _one_line(_ends(tmp_path, MILLRACE_RTMP__PROXY_FROM="10.0.0.0/99"), 2, "MILLRACE_RTMP__PROXY_FROM")
    _one_line(_ends(tmp_path, "--config", str(tmp_path / "nowhere.toml")), 2, "nowhere.toml")
