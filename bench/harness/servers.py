"""The servers under load: the gateway and its peers, each with its addresses, started for one measurement."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, ClassVar, Self

from bench.harness import paths
from bench.harness.procs import BenchError, Process, Usage, free_port, usage

NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
TOKEN = "load-bench-token-0123456789abcdef"  # of a gateway on loopback that lives for one measurement


@dataclass(frozen=True, slots=True)
class Urls:
    """Addresses of the streams of one measurement, one of each kind per stream; empty where a server has none."""

    push: list[str]
    flv: list[str]
    ws: list[str]
    rtmp: list[str]
    hls: list[str]
    llhls: list[str]
    whip: list[str] = field(default_factory=list)
    whep: list[str] = field(default_factory=list)

    def play(self, proto: str) -> list[str]:
        found: list[str] = getattr(self, proto)
        return found


class Server(ABC):
    """A server that one measurement starts, loads and stops."""

    name: ClassVar[str]
    serves: ClassVar[frozenset[str]]
    keeps_gop: ClassVar[bool] = True  # new viewers are given the pictures since the last key frame
    whep_page: ClassVar[str] = "whep.html"  # its own player page, from the address of WHEP

    def __init__(self, variant: str = "") -> None:
        self.variant = variant
        self.label = f"{self.name}:{variant}" if variant else self.name
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
        self.process: Process | None = None

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Raises BenchError, naming what to install, where the server cannot run here."""

    @abstractmethod
    def start(self, *, packaged: bool) -> float:
        """Starts it; returns the seconds until it took connections (the gateway: until it called itself ready)."""

    @abstractmethod
    def streams(self, n: int, *, packaged: bool) -> Urls:
        """Prepares n streams and returns their addresses."""

    def again(self) -> Self:
        """Another one of the same kind, not yet started."""
        return type(self)(self.variant)

    def run(self, command: list[str | Path], env: dict[str, str] | None = None) -> Process:
        log = paths.LOGS / f"{self.name}.log"
        self.process = Process(self.name, command, cwd=self.folder, env=env, log=log)
        return self.process

    @property
    def pid(self) -> int:
        """Of its first process, which must be running."""
        if not self.process or not self.process.alive:
            raise self.process.died() if self.process else BenchError(f"{self.name} has not been started")
        return self.process.pid

    def usage(self) -> Usage:
        return usage(self.pid)

    def stop(self) -> float:
        """Stops it and removes its folder; returns the seconds that it took to end."""
        took = self.process.stop() if self.process else 0.0
        shutil.rmtree(self.folder, ignore_errors=True)
        return took

    def fill_in(self, template: str, target: str, **values: object) -> Path:
        """Writes a file of peers/ into the server's folder with its $names replaced."""
        text = Template((paths.PEERS / template).read_text()).substitute({k: str(v) for k, v in values.items()})
        file = self.folder / target
        file.write_text(text)
        return file


class Gateway(Server):
    """The project's own gateway, from this checkout; the variant is the flush bound in milliseconds."""

    name = "millrace"
    verb: ClassVar[str] = "serve"
    serves = frozenset({"ingest", "packaged", "flv", "ws", "rtmp", "hls", "llhls", "webrtc", "start"})

    def __init__(self, variant: str = "") -> None:
        super().__init__(variant)
        self.flush_ms = int(variant) if variant else None
        self.ports: dict[str, int | None] = {}
        self.settings: dict[str, str] = {}  # variables besides
        self.channel: dict[str, object] = {}  # fields of its channels besides
        self.ids: list[str] = []  # of its channels

    @staticmethod
    def command() -> list[str | Path]:
        """$BENCH_MILLRACE, else the `millrace` beside this python, else this checkout run by this python."""
        if named := os.environ.get("BENCH_MILLRACE"):
            return [named]
        beside = Path(sys.executable).with_name("millrace")
        return [beside] if beside.exists() else [sys.executable, "-m", "gateway"]

    @classmethod
    def check(cls) -> None:
        run = [*cls.command(), "--version"]
        try:
            done = subprocess.run(run, cwd=paths.PROJECT, capture_output=True, text=True, timeout=60, check=False)
        except OSError as e:
            raise BenchError(f"millrace: cannot start {run[0]}: {e.strerror}") from e
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["?"])[-1][:200]
            raise BenchError(f"millrace: {words} (is this python the project's .venv?)")

    def start(self, *, packaged: bool) -> float:
        data = self.folder / "data"
        data.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
        env |= {f"MILLRACE_{x}__HOST": "127.0.0.1" for x in ("RTMP", "HTTP", "WS", "ADMIN", "SRT")}
        env |= {f"MILLRACE_{x}__PORT": "0" for x in ("RTMP", "HTTP", "WS", "ADMIN", "SRT")}
        env |= {"MILLRACE_SRT__SRTLA_PORT": "-1"}
        env |= {"MILLRACE_DATA": str(data), "MILLRACE_ADMIN__TOKEN": TOKEN}
        # All of the load comes from one address.
        env |= {f"MILLRACE_LIMITS__{x}_PER_ADDRESS": "0" for x in ("PUBLISHERS", "PLAYBACK")}
        if self.flush_ms is not None:
            env["MILLRACE_HTTP__FLUSH_MS"] = str(self.flush_ms)
        env |= self.settings
        command = self.command()
        if "BENCH_MILLRACE" not in os.environ:  # this checkout, also if the installed program is of another one
            env["PYTHONPATH"] = str(paths.PROJECT)
        p = self.run([*command, self.verb], env)
        end = p.started + 30
        while time.monotonic() < end:
            if not p.alive:
                raise p.died()
            with contextlib.suppress(OSError, ValueError):
                if not self.ports:
                    self.ports = json.loads((data / "ports.json").read_text())
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/ready", timeout=5) as r:
                    if r.status == 200:
                        return time.monotonic() - p.started
            time.sleep(0.005)
        raise BenchError(f"millrace is not ready after 30 s (log: {p.log})")

    def streams(self, n: int, *, packaged: bool) -> Urls:
        channels = [self._create(i, packaged) for i in range(n)]
        ids = self.ids = [c["id"] for c in channels]
        rtmp = f"rtmp://127.0.0.1:{self.ports['rtmp']}/stream"
        http, ws = (f"{x}://127.0.0.1:{self.ports['http']}" for x in ("http", "ws"))
        return Urls(
            push=[f"{rtmp}/{c['id']}?sign={c['key']}" for c in channels],
            flv=[f"{http}/{i}/live.flv" for i in ids],
            ws=[f"{ws}/{i}/live.flv" for i in ids],
            rtmp=[f"{rtmp}/{i}" for i in ids],
            hls=[f"{http}/{i}/live.m3u8" for i in ids] if packaged else [],
            llhls=[f"{http}/{i}/master.m3u8" for i in ids] if packaged else [],
            whip=[f"{http}/{c['id']}/whip?sign={c['key']}" for c in channels],
            whep=[f"{http}/{i}/whep" for i in ids],
        )

    def _create(self, i: int, packaged: bool) -> Any:
        body = {
            "videoname": f"load {i}",
            "outdate": "2035-12-31",
            "isFlv": True,
            "isHls": packaged,
            "isCMAF": packaged,
            "hls_time": "2",
            "hls_list_size": "20",
        } | dict.fromkeys(("isVideo", "isImage", "isMotion", "isOnDemand"), False)
        return self.api("POST", "/videostream", body | self.channel)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the API's answer. BenchError for a refusal, OSError without an answer."""
        return json.loads(self.text(path, method, body) or b"null")

    def text(self, path: str, method: str = "GET", body: object = None) -> bytes:
        """The body of the API's answer; as `api`."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['admin']}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as r:
                answer: bytes = r.read()
                return answer
        except urllib.error.HTTPError as e:
            raise BenchError(f"millrace: {method} {path} answered {e.code}: {e.read(200)!r}") from e


class Peer(Server):
    """A server that takes any stream name without a key."""

    def __init__(self, variant: str = "") -> None:
        super().__init__(variant)
        self.rtmp_port, self.http_port = free_port(), free_port()

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        raise NotImplementedError

    def streams(self, n: int, *, packaged: bool) -> Urls:
        names = [f"load{i}" for i in range(n)]
        rtmp = [f"rtmp://127.0.0.1:{self.rtmp_port}/live/{x}" for x in names]
        urls: dict[str, list[str]] = {"push": rtmp, "rtmp": rtmp, "flv": [], "ws": [], "hls": [], "llhls": []}
        return Urls(**(urls | self.play_urls(names, packaged)))


class Floor(Peer):
    """bench/floor.c, which shows what C and the kernel cost; the variant is its batching bound in milliseconds."""

    name = "floor"
    serves = frozenset({"ingest", "flv", "start"})

    @classmethod
    def check(cls) -> None:
        """The bench has built it with its load clients."""

    def start(self, *, packaged: bool) -> float:
        ports = ["-r", str(self.rtmp_port), "-p", str(self.http_port)]
        p = self.run([paths.BUILD / "floor", *ports, "-b", self.variant or "50"])
        p.wait_listening(self.rtmp_port)
        p.wait_listening(self.http_port)
        return time.monotonic() - p.started

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        return {"flv": [f"http://127.0.0.1:{self.http_port}/live/{x}.flv" for x in names]}


class NginxRtmp(Peer):
    """Debian's nginx with libnginx-mod-rtmp: RTMP play, HLS written to disk and served by nginx itself."""

    name = "nginx-rtmp"
    serves = frozenset({"ingest", "packaged", "rtmp", "hls", "start"})
    keeps_gop = False

    @classmethod
    def check(cls) -> None:
        if not shutil.which("nginx") or not NGINX_MODULE.exists():
            raise BenchError("nginx-rtmp: not installed (Debian: nginx libnginx-mod-rtmp)")

    def start(self, *, packaged: bool) -> float:
        (self.folder / "tmp").mkdir()
        (self.folder / "hls").mkdir()
        hls = f"hls on; hls_path {self.folder}/hls; hls_fragment 2s; hls_playlist_length 40s;"
        user = "user root;" if os.geteuid() == 0 else ""
        values = {"rtmp": self.rtmp_port, "http": self.http_port, "packaging": hls if packaged else ""}
        conf = self.fill_in("nginx-rtmp.conf", "nginx.conf", module=NGINX_MODULE, user=user, **values)
        p = self.run(["nginx", "-p", self.folder, "-c", conf, "-e", "stderr"])
        p.wait_listening(self.rtmp_port)
        return time.monotonic() - p.started

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        return {"hls": [f"http://127.0.0.1:{self.http_port}/hls/{x}.m3u8" for x in names] if packaged else []}


class NodeMediaServer(Peer):
    """node-media-server from npm, pinned by peers/package.json: HTTP-FLV, WS-FLV and RTMP play."""

    name = "nms"
    serves = frozenset({"ingest", "flv", "ws", "rtmp", "start"})
    HOME = paths.BUILD / "peers" / "nms"

    @classmethod
    def check(cls) -> None:
        for program in ("node", "npm"):
            if not shutil.which(program):
                raise BenchError(f"nms: {program} is not installed (Debian: nodejs npm)")
        manifest = (paths.PEERS / "package.json").read_bytes()
        installed = cls.HOME / "package.json"
        app = cls.HOME / "node_modules" / "node-media-server" / "bin" / "app.js"
        if app.exists() and installed.exists() and installed.read_bytes() == manifest:
            return
        cls.HOME.mkdir(parents=True, exist_ok=True)
        installed.write_bytes(manifest)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=cls.HOME, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode or not app.exists():
            raise BenchError(f"nms: npm install failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")

    def start(self, *, packaged: bool) -> float:
        conf = self.fill_in("nms.json", "nms.json")
        app = self.HOME / "node_modules" / "node-media-server" / "bin" / "app.js"
        ports = ["--rtmp-port", str(self.rtmp_port), "--http-port", str(self.http_port)]
        p = self.run(["node", app, "-c", conf, "--no-admin", *ports])
        p.wait_listening(self.rtmp_port)
        p.wait_listening(self.http_port)
        return time.monotonic() - p.started

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        return {x: [f"{s}://127.0.0.1:{self.http_port}/live/{i}.flv" for i in names] for x, s in FLV_SCHEMES.items()}


FLV_SCHEMES = {"flv": "http", "ws": "ws"}


class Srs(Peer):
    """SRS, whose executable $BENCH_SRS names; the variant is its write-merging time in milliseconds (default 350)."""

    name = "srs"
    serves = frozenset({"ingest", "packaged", "flv", "rtmp", "hls", "start"})

    def __init__(self, variant: str = "") -> None:
        super().__init__(variant)
        self.merge_ms = int(variant) if variant else None

    @classmethod
    def check(cls) -> None:
        program = os.environ.get("BENCH_SRS", "")
        if not program or not os.access(program, os.X_OK):
            raise BenchError("srs: BENCH_SRS must name an executable of SRS (trunk/objs/srs after its own build)")

    def start(self, *, packaged: bool) -> float:
        hls = f"hls {{ enabled on; hls_path {self.folder}; hls_fragment 2; hls_window 40; }}"
        merge = "" if self.merge_ms is None else f"mw_latency {self.merge_ms};"
        values = {"rtmp": self.rtmp_port, "http": self.http_port, "packaging": hls if packaged else ""}
        connections = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)  # SRS refuses to promise more
        conf = self.fill_in("srs.conf", "srs.conf", merge=merge, connections=connections, **values)
        p = self.run([os.environ["BENCH_SRS"], "-c", conf])
        p.wait_listening(self.rtmp_port)
        p.wait_listening(self.http_port)
        return time.monotonic() - p.started

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        http = f"http://127.0.0.1:{self.http_port}/live"
        hls = [f"{http}/{x}.m3u8" for x in names] if packaged else []
        return {"flv": [f"{http}/{x}.flv" for x in names], "hls": hls}


class MediaMtx(Peer):
    """MediaMTX, whose executable $BENCH_MEDIAMTX names: RTMP and WHIP in, WHEP out."""

    name = "mediamtx"
    serves = frozenset({"ingest", "rtmp", "webrtc", "start"})
    keeps_gop = False
    whep_page = "./"

    def __init__(self, variant: str = "") -> None:
        super().__init__(variant)
        self.srt_port = free_port()

    @classmethod
    def check(cls) -> None:
        program = os.environ.get("BENCH_MEDIAMTX", "")
        if not program or not os.access(program, os.X_OK):
            raise BenchError("mediamtx: BENCH_MEDIAMTX must name an executable of MediaMTX")

    def start(self, *, packaged: bool) -> float:
        ports = {"rtmp": self.rtmp_port, "http": self.http_port, "ice": free_port(), "srt": self.srt_port}
        conf = self.fill_in("mediamtx.yml", "mediamtx.yml", **ports)
        p = self.run([os.environ["BENCH_MEDIAMTX"], conf])
        p.wait_listening(self.rtmp_port)
        p.wait_listening(self.http_port)
        return time.monotonic() - p.started

    def play_urls(self, names: list[str], packaged: bool) -> dict[str, list[str]]:
        http = f"http://127.0.0.1:{self.http_port}/live"
        return {way: [f"{http}/{x}/{way}" for x in names] for way in ("whip", "whep")}


SERVERS: dict[str, type[Server]] = {s.name: s for s in (Gateway, Floor, NodeMediaServer, NginxRtmp, Srs, MediaMtx)}


def find(spec: str) -> tuple[type[Server], str]:
    """The server class and variant of "name" or "name:milliseconds"; BenchError when there is no such server."""
    name, _, variant = spec.partition(":")
    if name not in SERVERS:
        raise BenchError(f"no such server: {name} (there are {', '.join(SERVERS)})")
    if variant and (not variant.isdigit() or name not in ("millrace", "floor", "srs")):
        raise BenchError(f"{spec}: only millrace:MS, floor:MS (flush bound) and srs:MS (write merging) have variants")
    return SERVERS[name], variant
