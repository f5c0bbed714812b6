"""The example protocol of docs/extending.md: its own files and two files of settings make a UDP push work."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docs.examples.udp_push.protocols import units
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.reader import FlvReader
from gateway.formats.flv.tag import VIDEO
from gateway.media.track import AccessUnit, Kind, MediaTrack
from tests.support import fork_server
from tests.support.clients import until
from tests.support.cores import Cores
from tests.support.gateway import Channel, http
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

EXAMPLE = fork_server.ROOT / "docs" / "examples" / "udp_push"
FILM = Film("udp-example", seconds=6)

Start = Callable[..., Cores]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the example, as docs/extending.md adds a protocol. No other file changes."""
    root = tmp_path_factory.mktemp("checkout")
    source = fork_server.ROOT
    shutil.copytree(source / "gateway", root / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source / "config", root / "config")
    shutil.copy(source / "pyproject.toml", root)
    shutil.copytree(EXAMPLE / "protocols", root / "gateway" / "protocols", dirs_exist_ok=True)
    shutil.copytree(EXAMPLE / "ingest", root / "gateway" / "ingest", dirs_exist_ok=True)
    defaults = (source / "config" / "default.toml").read_text()
    (root / "config" / "default.toml").write_text(defaults + (EXAMPLE / "settings" / "default.toml").read_text())
    models = root / "gateway" / "settings" / "models.py"
    section = (EXAMPLE / "settings" / "models.py").read_text().partition("\n\n\n")[2]
    text = models.read_text().replace("class TlsSettings(", f"{section}\n\nclass TlsSettings(")
    field = "    admin: AdminSettings\n"
    models.write_text(text.replace(field, f"    units: UnitsSettings\n{field}"))
    return root


@pytest.fixture
def start(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    need("ffmpeg")
    FILM.path()
    monkeypatch.setattr(fork_server, "ROOT", checkout)
    started: list[Cores] = []

    def start(workers: int, **settings: str) -> Cores:
        own = {"MILLRACE_UNITS__HOST": "127.0.0.1", "MILLRACE_UNITS__PORT": "0", "PYTHONPATH": str(checkout)}
        gateway = Cores(tmp_path, workers, **own, **settings)
        started.append(gateway)
        gateway.wait_ready()
        return gateway

    yield start
    for gateway in started:
        assert gateway.stop() == 0, gateway.log[-3000:]


def film_units() -> tuple[list[MediaTrack], list[AccessUnit]]:
    """The tracks and units of the film."""
    demuxer, found = MediaDemuxer(), list[AccessUnit]()
    for kind, timestamp, body in FlvReader().receive(FILM.path().read_bytes()):
        read = demuxer.read_video if kind == VIDEO else demuxer.read_audio
        item = read(timestamp, body, 0.0) if kind in (8, 9) else None
        if isinstance(item, AccessUnit):
            found.append(item)
    assert demuxer.video_track is not None and demuxer.audio_track is not None
    return [demuxer.video_track, demuxer.audio_track], found


class UnitsPush:
    """A client that sends the film again and again, until the `with` block ends."""

    def __init__(self, channel: Channel, key: str = "") -> None:
        self.port = channel.gateway.ports["units"]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(at_most(10))
        self._socket.connect(("127.0.0.1", self.port))
        self._socket.send(units.OPEN + f"{channel.id}?sign={key or channel.key}".encode())
        self.answer = self._socket.recv(2048)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> UnitsPush:
        if self.answer == units.ACCEPTED:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        tracks, found = film_units()
        for track in tracks:
            self._socket.send(units.TRACK + (b"\0" if track.kind is Kind.VIDEO else b"\1") + track.config)
        began, turn = time.monotonic(), 0
        while not self._over.is_set():
            for unit in found:
                at = unit.dts + turn * FILM.seconds * 1000
                if self._over.wait(max(0.0, began + at / 1000 - time.monotonic())):
                    return
                unit = AccessUnit(unit.track, at, unit.cts, unit.key, 0.0, unit.payload)
                for datagram in units.write_unit(unit):
                    self._socket.send(datagram)
            turn += 1


def segment(channel: Channel) -> int:
    """The number of the oldest segment in the HLS playlist. It grows with the stream."""
    reply = http("GET", channel.url("live.m3u8"))
    found = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", reply.text)
    assert found is not None, reply.text
    return int(found[1])


def test_the_protocol_pushes_and_is_in_ports_addresses_and_metrics(start: Start) -> None:
    gateway = start(1)
    channel = gateway.channel("units")
    port = gateway.ports["units"]
    assert channel.item["pushUrls"]["units"] == f"units://127.0.0.1:{port}/{channel.id}?sign={channel.key}"
    with UnitsPush(channel) as push:
        assert push.answer == units.ACCEPTED
        channel.wait_live()
        channel.wait_playable("live.m3u8", "master.m3u8")
        tracks = {track["kind"]: track["codec"] for track in channel.session()["tracks"]}
        assert tracks.keys() == {"video", "audio"}
        assert 'millrace_publishers{protocol="units"} 1' in gateway.api("GET", "/metrics").text
        assert '"event":"publishing"' in gateway.log and "a task failed" not in gateway.log
        with UnitsPush(channel) as second:
            assert second.answer == units.REFUSED + b"NameInUse"
    with UnitsPush(channel, "1-wrong") as wrong:
        assert wrong.answer == units.REFUSED + b"NotAuthorized"


@pytest.mark.nightly
def test_pushes_to_several_processes_go_on_while_the_processes_are_replaced(start: Start) -> None:
    gateway = start(2)
    gateway.wait_workers("1", "2")
    channels = [gateway.channel(f"units{number}") for number in range(4)]
    with UnitsPush(channels[0]), UnitsPush(channels[1]), UnitsPush(channels[2]):
        for channel in channels[:3]:
            channel.wait_live()
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: '"event":"reloaded"' in gateway.log, "the reload is over", 60)
        for channel in channels[:3]:
            channel.wait_playable("live.m3u8")
        before = [(channel, segment(channel)) for channel in channels[:3]]
        with UnitsPush(channels[3]) as new:
            assert new.answer == units.ACCEPTED
            channels[3].wait_live()
            for channel, number in before:
                until(lambda c=channel, n=number: segment(c) > n + 3, "more segments of each push", 30)  # type: ignore[misc]
        assert "publish ended" not in gateway.log
