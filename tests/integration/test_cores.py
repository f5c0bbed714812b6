"""Several worker processes on the same ports: one gateway to everybody outside, whatever becomes of one of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.clients import Program, pull, push, so_far, take_of, until
from tests.support.cores import Cores, EdgeCores, alive
from tests.support.gateway import Channel, Gateway, http
from tests.support.media import Film, judge

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")

FILM = Film("cores-20", seconds=20)
SHORT = Film("cores-6", seconds=6)
ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Cores]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts gateways of several workers, each in a folder of its own, and ends what a test leaves running."""
    started: list[Cores] = []

    def start(workers: int = 2, **settings: str) -> Cores:
        folder = tmp_path / f"{len(started)}"
        folder.mkdir()
        gateway = Cores(folder, workers, **settings)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield start
    for gateway in started:
        with contextlib.suppress(AssertionError):
            gateway.stop(10)


@contextlib.contextmanager
def viewers_everywhere(gateway: Cores, url: str) -> Iterator[list[Program]]:
    """ffmpegs that play until the stream ends, as many as it takes until each worker has one. The kernel chooses."""
    with contextlib.ExitStack() as stack:
        viewers: list[Program] = []
        served: set[str] = set()
        while served != gateway.workers().keys():
            assert len(viewers) < 30, served
            viewers.append(stack.enter_context(pull(url, seconds=None)))
            served.add(until(lambda: gateway.serving(viewers[-1]), "the viewer is connected"))
        yield viewers


# ---- one gateway to everybody ----


def test_what_is_pushed_at_one_worker_plays_at_all_of_them(start: Start) -> None:
    gateway = start(3)
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_playable("live.m3u8", "master.m3u8")
        with viewers_everywhere(gateway, channel.url("live.flv")) as viewers:
            publisher.wait()
            gateway.api("DELETE", f"/videostream/{channel.id}/session")
            for viewer in viewers:
                judge(take_of(viewer), FILM)
    log = gateway.log
    assert 1 <= log.count('"event":"pulling"') <= 2, "each of the others pulls it once"


def test_hls_is_the_same_through_every_worker(start: Start) -> None:
    gateway = start(3)
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
        known: dict[int, str] = {}
        for _ in range(40):
            reply = http("GET", channel.url("live.m3u8"))
            assert reply.status == 200
            first = int(re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", reply.text)[0])
            for number, uri in enumerate(re.findall(r"^\d+\.ts$", reply.text, re.M), first):
                assert known.setdefault(number, uri) == uri
        bodies = {http("GET", channel.url(known[max(known)])).body for _ in range(20)}
        assert len(bodies) == 1
        with pull(channel.url("master.m3u8")) as player:
            judge(take_of(player), FILM)


def test_viewers_of_all_workers_are_one_sum_and_pulls_are_none(start: Start) -> None:
    gateway = start(3)
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_live()
        with viewers_everywhere(gateway, channel.url("live.flv")) as viewers:
            wanted = float(len(viewers))
            until(lambda: gateway.measured().get('millrace_viewers{protocol="flv"}') == wanted, "all are counted")
            measured = gateway.measured()
            assert measured['millrace_streams{state="live"}'] == 1
            assert measured['millrace_publishers{protocol="rtmp"}'] == 1
            assert measured['millrace_processes{state="summed"}'] == 3
            assert {'process_open_fds{process="1"}', 'process_open_fds{process="3"}'} <= measured.keys()
            session = channel.session()
            until(lambda: channel.session()["viewers"]["flv"] == len(viewers), f"the session has them: {session}")


def test_counters_never_go_back_whoever_dies(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    sent = 'millrace_sent_bytes_total{protocol="flv"}'
    with push(FILM, channel.push):
        channel.wait_live()
        with viewers_everywhere(gateway, channel.url("live.flv")):
            until(lambda: gateway.measured()[sent] > 50_000, "bytes are counted")
            for name in ("2", "1"):
                before = gateway.measured()[sent]
                os.kill(gateway.workers()[name], signal.SIGKILL)
                gateway.wait_workers("1", "2-2") if name == "2" else gateway.wait_workers("1-2", "2-2")
                until(lambda: gateway.ask() == 200, "it serves")
                until(lambda: _answers(gateway), "the console is there again", 10)
                assert gateway.measured()[sent] >= before


def _answers(gateway: Gateway) -> bool:
    with contextlib.suppress(OSError):
        return gateway.api("GET", "/servers").status == 200
    return False


# ---- one that dies ----


def test_a_worker_that_only_plays_is_killed_and_everybody_else_goes_on(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_live()
        with viewers_everywhere(gateway, channel.url("live.flv")) as viewers:
            for viewer in viewers:
                until(lambda: len(so_far(viewer).video) > 30, "it plays")  # noqa: B023
            holder = gateway.holder()
            (other,) = gateway.workers().keys() - {holder}
            os.kill(gateway.workers()[other], signal.SIGKILL)
            gateway.wait_workers(holder, f"{other}-2")
            with viewers_everywhere(gateway, channel.url("live.flv")) as again:
                publisher.wait()
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                takes = [take_of(viewer) for viewer in viewers]
                for viewer in again:
                    judge(take_of(viewer), FILM)
    assert publisher.process.returncode == 0, publisher.errors
    whole = [take for take in takes if take.video[-1].digest == FILM.hashes().video[-1].digest]
    assert whole and len(whole) < len(takes), "those of the dead one were cut, the others saw it to its end"
    for take in whole:
        judge(take, FILM)


def test_the_holder_is_killed_and_the_stream_goes_on_with_the_publishers_return(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(push(FILM, channel.push))
        channel.wait_playable("live.m3u8")
        viewers = stack.enter_context(viewers_everywhere(gateway, channel.url("live.flv")))
        for viewer in viewers:
            until(lambda: len(so_far(viewer).video) > 30, "it plays")  # noqa: B023
        holder = gateway.holder()
        before = http("GET", channel.url("live.m3u8")).text
        os.kill(gateway.workers()[holder], signal.SIGKILL)
        first.wait()

        def returns() -> Program:
            program = stack.enter_context(push(SHORT, channel.push))
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(2)
            return program

        second = until(lambda: (p := returns()).running and p, "the publisher is taken again", 20)
        after = until(
            lambda: "SEQUENCE" in (text := http("GET", channel.url("live.m3u8")).text) and text, "HLS goes on"
        )
        second.wait()
        until(lambda: _answers(gateway), "the console is there again", 10)
        gateway.api("DELETE", f"/videostream/{channel.id}/session")
        seen = [[frame.digest for frame in take_of(viewer).video] for viewer in viewers]
    number = re.compile(r"#EXT-X-MEDIA-SEQUENCE:(\d+)")
    assert int(number.findall(after)[0]) >= int(number.findall(before)[0])
    ends = [frames[-1] for frames in seen]
    assert SHORT.hashes().video[-1].digest in ends, "viewers of the other worker stayed and saw what came then"


def test_what_a_killed_worker_was_recording_is_finished_by_its_successor_and_its_siblings_is_not(start: Start) -> None:
    gateway = start(2)
    channels = [gateway.channel(isVideo=True, video_time="600") for _ in range(12)]
    with contextlib.ExitStack() as stack:
        pushed: dict[str, Channel] = {}
        for channel in channels:
            before = gateway.connections("rtmp")
            stack.enter_context(push(FILM, channel.push))
            channel.wait_live()
            now = gateway.connections("rtmp")
            (name,) = (name for name in now if now[name] > before.get(name, 0))
            pushed.setdefault(name, channel)
            if len(pushed) == 2:
                break
        assert len(pushed) == 2, "the kernel gave both workers a push"
        scratch = gateway.data / "media/.unfinished/video"
        until(lambda: _sizes(scratch, pushed.values()) == [True, True], "both are recorded")
        (victim, lost), (_, kept) = pushed.items()
        os.kill(gateway.workers()[victim], signal.SIGKILL)
        done = lambda channel: list((gateway.data / "media" / channel.id).rglob("*.mp4"))  # noqa: E731
        until(lambda: done(lost), "the successor finishes it", 20)
        assert done(kept) == []
        assert len(_of(scratch, [kept])) == 1
    until(lambda: done(kept), "the sibling finishes its own", 30)
    assert [len(done(channel)) for channel in (lost, kept)] == [1, 1]


def _of(scratch: Path, channels: Iterable[Channel]) -> list[Path]:
    """Unfinished recordings of these channels."""
    ids = {channel.id for channel in channels}
    return [path for path in scratch.glob("*.fmp4") if path.name.partition("~")[0] in ids]


def _sizes(scratch: Path, channels: Iterable[Channel]) -> list[bool]:
    """Of each of those, whether it has some seconds."""
    return [path.stat().st_size > 50_000 for path in _of(scratch, channels)]


def test_the_first_worker_is_back_with_the_console_at_once(start: Start) -> None:
    gateway = start(2)
    os.kill(gateway.workers()["1"], signal.SIGKILL)
    gateway.wait_workers("1-2", "2", timeout=10)
    assert gateway.api("GET", "/videostream").status == 200
    assert gateway.log.count('"event":"worker died"') == 1
    nodes = lambda: [one["node"].partition(".")[2] for one in gateway.api("GET", "/nodes").json()]  # noqa: E731
    until(lambda: sorted(nodes()) == ["1-2", "2"], "the dead one is no node any more", 20)


# ---- replaced on SIGHUP ----


def test_a_reload_cuts_neither_publisher_nor_viewers(start: Start) -> None:
    gateway = start(2)
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_playable("live.m3u8")
        with viewers_everywhere(gateway, channel.url("live.flv")) as before:
            old = gateway.workers()
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 30)
            assert {"1-2", "2-2"} <= gateway.workers().keys()
            with pull(channel.url("live.flv"), seconds=None) as after, pull(channel.url("live.m3u8")) as hls:
                publisher.wait()
                judge(take_of(hls), FILM)
                for viewer in before:
                    until(lambda: not viewer.running, "the stream ends with its publisher", 40)  # noqa: B023
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                judge(take_of(after), FILM)
                for viewer in before:
                    take = take_of(viewer)
                    judge(take, FILM)
                    assert take.video[-1].digest == FILM.hashes().video[-1].digest, "to its last frame"
    assert publisher.process.returncode == 0, publisher.errors
    until(lambda: not any(map(alive, old.values())), "the old workers have ended", 20)
    assert gateway.log.count('"event":"publish ended"') == 1


def test_a_process_that_was_replaced_stays_no_longer_than_it_may(start: Start) -> None:
    gateway = start(2, MILLRACE_SERVE__RETIRE="1")
    channel = gateway.channel()
    with push(FILM, channel.push) as publisher:
        channel.wait_live()
        old = gateway.workers()
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: not any(map(alive, old.values())), "the old workers have ended", 30)
        until(lambda: not publisher.running, "the push is cut")
    assert "publishers or viewers stay longer than a replaced process may" in gateway.log
    gateway.wait_workers("1-2", "2-2")


def test_requests_find_somebody_all_the_time_while_workers_are_replaced(start: Start) -> None:
    gateway = start(2)
    statuses: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                statuses.append(gateway.ask())
            except OSError as error:
                statuses.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for times in (1, 2):
            gateway.process.send_signal(signal.SIGHUP)
            until(lambda: gateway.log.count('"event":"reloaded"') == times, "reloaded", 30)  # noqa: B023
        gateway.wait_workers("1-3", "2-3")
    finally:
        over.set()
        asking.join()
    assert len(statuses) > 50
    assert set(statuses) == {200}


def test_a_reload_brings_the_new_configuration(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text("")
    gateway = start(2, MILLRACE_CONFIG=str(config))
    channel = gateway.channel()
    with push(FILM, channel.push):
        channel.wait_playable("live.m3u8")
        config.write_text('[playback]\nauth = "sign"\n')
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 30)
        until(lambda: {http("GET", channel.url("live.m3u8")).status for _ in range(10)} == {403}, "signs are asked for")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[stream]\nlinger = 'long'\n", "stream.linger"),
        ("[tls]\ncert = '{tmp}/cert.pem'\n", "tls.cert"),
        ("[transcode]\nladders = '{tmp}/ladders.toml'\n", "ladders.toml"),
    ],
)
def test_a_configuration_that_cannot_be_used_changes_nothing_and_is_said_in_one_line(
    start: Start, tmp_path: Path, text: str, words: str
) -> None:
    config = tmp_path / "millrace.toml"
    config.write_text("")
    (tmp_path / "ladders.toml").write_text("nonsense")
    gateway = start(2, MILLRACE_CONFIG=str(config))
    before = gateway.workers()
    config.write_text(text.replace("{tmp}", str(tmp_path)))
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: "reload cancelled" in gateway.log, "it is said", 30)
    assert words in gateway.log
    assert gateway.log.count("reload cancelled") == 1
    assert "Traceback" not in gateway.log
    assert gateway.wait_workers("1", "2") == before
    assert gateway.ask() == 200


# ---- an edge ----


def test_an_edge_of_several_workers_is_one_edge_to_everybody(start: Start, tmp_path: Path) -> None:
    shared = {
        "MILLRACE_CLUSTER__SECRET": "of the cluster",
        "MILLRACE_REGISTRY": f"sqlite:///{tmp_path}/nodes.db",
        "MILLRACE_CHANNELS": f"sqlite:///{tmp_path}/channels.db",
    }
    gateway = start(2, **shared)
    (tmp_path / "edge").mkdir()
    edge = EdgeCores(tmp_path / "edge", 2, **shared)
    try:
        edge.wait_ready()
        channel = gateway.channel()
        url = f"http://127.0.0.1:{edge.ports['http']}/{channel.id}"
        with push(FILM, channel.push) as publisher:
            channel.wait_playable("live.m3u8")
            with viewers_everywhere(edge, f"{url}/live.flv") as viewers:
                wanted = float(len(viewers))
                until(lambda: edge.measured().get('millrace_viewers{protocol="flv"}') == wanted, "all are counted")
                assert edge.measured()['millrace_processes{state="summed"}'] == 2
                edge.process.send_signal(signal.SIGHUP)
                until(lambda: '"event":"reloaded"' in edge.log, "the reload is over", 30)
                with pull(f"{url}/live.m3u8") as player:
                    judge(take_of(player), FILM)
                publisher.wait()
                gateway.api("DELETE", f"/videostream/{channel.id}/session")
                for viewer in viewers:
                    judge(take_of(viewer), FILM)
        edge.wait_workers("1-2", "2-2")
    finally:
        assert edge.stop() == 0, edge.log[-3000:]
    assert not (edge.data / "run").exists(), "a gateway may have the same data folder"


# ---- beginning and end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_and_leaves_nothing(start: Start, number: signal.Signals) -> None:
    gateway = start(3)
    channel = gateway.channel()
    workers = gateway.workers()
    with push(FILM, channel.push) as publisher, pull(channel.url("live.flv"), seconds=None) as viewer:
        channel.wait_live()
        until(lambda: so_far(viewer).video, "it plays")
        gateway.process.send_signal(number)
        assert gateway.ended() == 0, gateway.log[-2000:]
        publisher.wait()
        take_of(viewer)
    assert not any(map(alive, workers.values()))
    assert [path.name for path in (gateway.data / "run").iterdir()] == ["lock"]
    assert '"level":"error"' not in gateway.log
    assert "Traceback" not in gateway.log


def test_signals_to_the_whole_group_as_a_terminal_and_systemd_send_them_end_it_in_good_order(start: Start) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        gateway = start(2)
        os.killpg(gateway.process.pid, number)
        assert gateway.ended() == 0, gateway.log[-2000:]
        assert '"level":"error"' not in gateway.log


def test_a_second_signal_ends_at_once(start: Start) -> None:
    gateway = start(2)
    workers = gateway.workers()
    os.kill(workers["2"], signal.SIGSTOP)  # it will not drain
    gateway.process.send_signal(signal.SIGTERM)
    until(lambda: "shutting down" in gateway.log, "the first signal was heard")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.ended(5) == 128 + signal.SIGTERM
    assert not any(map(alive, workers.values()))


def test_workers_whose_master_is_killed_drain_by_themselves(start: Start) -> None:
    gateway = start(2)
    workers = gateway.workers()
    gateway.process.send_signal(signal.SIGKILL)
    gateway.ended()
    until(lambda: not any(map(alive, workers.values())), "they have ended", 20)
    assert "the master is gone" in gateway.log


def test_a_worker_that_is_told_to_end_is_replaced(start: Start) -> None:
    gateway = start(2)
    os.kill(gateway.workers()["2"], signal.SIGTERM)
    gateway.wait_workers("1", "2-2")


def _cannot_start(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    env |= {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN")}
    env |= {"MILLRACE_DATA": str(folder), "MILLRACE_SERVE__WORKERS": "2", **settings}
    command = [sys.executable, "-m", "gateway", "serve"]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def _one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    for word in words:
        assert word in lines[0]


def test_what_stands_in_the_way_of_a_start_is_one_line(start: Start, tmp_path: Path) -> None:
    running = start(2)
    for name in ("RTMP", "ADMIN"):
        port = str(running.ports[name.lower()])
        host = {f"MILLRACE_{name}__HOST": "127.0.0.1"}
        done = _cannot_start(tmp_path / "taken", **{f"MILLRACE_{name}__PORT": port}, **host)
        _one_line(done, 1, name.lower(), port, "in use")
    _one_line(_cannot_start(running.data), 1, f"process {running.process.pid} runs on this data folder already")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "millrace.db").write_bytes(b"this is no database" * 100)
    _one_line(_cannot_start(broken), 1, "millrace.db")
    (tmp_path / "ladders.toml").write_text("nonsense")
    ladders = {"MILLRACE_TRANSCODE__LADDERS": str(tmp_path / "ladders.toml")}
    _one_line(_cannot_start(tmp_path / "fine", **ladders), 2, "ladders.toml")


def test_one_worker_needs_no_master(tmp_path: Path) -> None:
    gateway = Cores(tmp_path, 1)
    try:
        gateway.wait_ready()
        assert gateway.children() == []
        assert not (gateway.data / "run").exists()
        assert not (gateway.data / "nodes.db").exists()
        assert '"process"' not in gateway.log
    finally:
        assert gateway.stop() == 0


def test_the_master_is_small_and_loads_no_media_code() -> None:
    program = "import sys, gateway.__main__, gateway.cores.master, gateway.cores.endpoints; "
    program += "print(*sorted(m for m in sys.modules if m.startswith('gateway.') or m in ('uvloop', 'aiohttp', 'av')))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(said.split())
    assert not loaded & {"uvloop", "aiohttp", "av", "gateway.app", "gateway.listeners", "gateway.hub.hub"}
    rooms = ("gateway.packagers", "gateway.transcode", "gateway.sinks", "gateway.vod", "gateway.api", "gateway.formats")
    assert [name for name in loaded if name.startswith(rooms)] == []


def test_the_secret_of_the_workers_is_in_no_command_line_environment_or_log(start: Start) -> None:
    gateway = start(2)
    seen = gateway.log
    for pid in (gateway.process.pid, *gateway.workers().values()):
        for place in ("cmdline", "environ"):
            seen += Path(f"/proc/{pid}/{place}").read_bytes().replace(b"\0", b" ").decode()
    assert "--link" in seen
    assert not re.search(r"secret[\"'=: ]+[A-Za-z0-9_-]{20}", seen)
