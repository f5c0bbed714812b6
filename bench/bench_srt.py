"""SRT in and out, side by side with MediaMTX in the same run. Loopback only. Rows are JSON lines.

    bench_srt push                    one push of 5 Mbit/s: share of a core plain, AES-128, and with 5 % loss; memory
    bench_srt pushes -n 50            pushes of 5 Mbit/s to one process: units that did not come, lateness
    bench_srt viewers -n 300          players of one stream of 2.5 Mbit/s: CPU per GB, packets that were dropped
    bench_srt glass                   from the encoder's socket to an HTTP-FLV viewer's, beside the latency
    bench_srt all

Servers (--servers): millrace, mediamtx (an executable named by $BENCH_MEDIAMTX). Needs libsrt (Debian:
libsrt-openssl-dev), because `srtload` is libsrt's own sender and receiver. CPU is that of the server's processes only.
Rows are appended to build/bench/srt.jsonl.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.harness import clients, paths
from bench.harness.clients import Client, Viewers
from bench.harness.limits import set_limits
from bench.harness.measures import Row, Window, owned
from bench.harness.procs import BenchError
from bench.harness.servers import Gateway, MediaMtx, Server
from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.program_reader import ProgramReader, ProgramUnit
from gateway.media.track import Kind, MediaTrack
from tests.support.srt import thin_link

RESULTS = paths.BUILD / "srt.jsonl"
PASSPHRASE = "the passphrase of a bench"
_STAMP = b"\xa5\x5a#LATENCY-PROBE" + b"0" * 16  # as in common.h
_SEI = (36).to_bytes(4, "big") + b"\x06\x05\x20" + _STAMP + b"\x80"
_SECONDS = 30  # of a recorded stream
_PAYLOAD = 1316


# ---- streams ----


def stream(kbps: int) -> Path:
    """Returns a recorded stream, made once: chunks with their times, all of a picture at one time."""
    path = paths.BUILD / f"srt{kbps}.chunks"
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            for ms, chunk in _chunks(_encoded(kbps)):
                out.write(struct.pack(">IH", ms, len(chunk)) + chunk)
        part.rename(path)
    return path


def _encoded(kbps: int) -> bytes:
    rate = f"{kbps - 200}k"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30,noise=alls=12:allf=t"]
    command += [
        "-f",
        "lavfi",
        "-i",
        "sine=f=440:r=48000",
        "-t",
        str(_SECONDS),
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]
    command += ["-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-nal-hrd", "cbr", "-g", "60"]
    command += ["-keyint_min", "60", "-sc_threshold", "0", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    command += ["-b:a", "128k", "-ac", "2", "-f", "mpegts", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _chunks(ts: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields milliseconds and at most seven packets: each picture with a stamp, and the sound before it."""
    reader = ProgramReader()
    units = [event.unit for event in reader.receive(ts) + reader.finish() if isinstance(event, ProgramUnit)]
    video = next(unit.track for unit in units if unit.track.kind is Kind.VIDEO)
    audio = next(unit.track for unit in units if unit.track.kind is Kind.AUDIO)
    muxer, first = TsMuxer(_track(video), _track(audio), delay=9_000), min(unit.dts for unit in units)
    for unit in sorted(units, key=lambda unit: unit.dts):
        dts = unit.dts - first
        if unit.track.kind is Kind.VIDEO:
            data = muxer.write_tables() if unit.key else b""
            data += muxer.write_video(dts, unit.cts, unit.key, _SEI + bytes(unit.payload)).render()
        else:
            data = b"".join(packet.render() for packet in muxer.write_audio([unit.payload], dts))
        for at in range(0, len(data), _PAYLOAD):
            yield dts // 90, data[at : at + _PAYLOAD]


def _track(track: MediaTrack) -> MediaTrack:
    return MediaTrack(track.kind, track.codec, 90_000, track.config)


def expected_units(path: Path, chunks: int) -> int:
    """Returns the number of units in the first chunks of a repeated stream."""
    found, data, at = [], path.read_bytes(), 0
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 6], "big")
        found.append(data[at + 6 : at + 6 + size])
        at += 6 + size
    turns, rest = divmod(chunks, len(found))
    reader = ProgramReader()
    events = reader.receive(b"".join(found * turns + found[:rest])) + reader.finish()
    return sum(isinstance(event, ProgramUnit) for event in events)


# ---- servers and clients ----


def made(name: str, **settings: str) -> Server:
    server = {"millrace": Gateway, "mediamtx": MediaMtx}[name]()
    if isinstance(server, Gateway):
        server.settings |= {"MILLRACE_LIMITS__PUBLISHERS": "0", **settings}
        server.channel |= {"isFlv": True}
    return server


@contextmanager
def started(server: Server, n: int) -> Iterator[tuple[int, list[str], list[str]]]:
    """The server with n streams. Yields the port of SRT, and the stream ids to push to and to play."""
    try:
        server.start(packaged=False)
        if isinstance(server, Gateway):
            urls = server.streams(n, packaged=False)
            pushes = ["publish:" + url.rpartition("/")[2] for url in urls.push]
            yield int(server.ports["srt"] or 0), pushes, [f"read:{id}" for id in server.ids]
        elif isinstance(server, MediaMtx):
            names = [f"live/load{i}" for i in range(n)]
            yield server.srt_port, [f"publish:{x}" for x in names], [f"read:{x}" for x in names]
    finally:
        server.stop()


class Load(Client):
    """srtload."""

    def __init__(self, what: str, port: int, ids: list[str], *options: object) -> None:
        self.list = clients.url_list([f"{port} {id}" for id in ids])
        command = [str(x) for x in (paths.BUILD / "srtload", what, "-l", self.list, *options)]
        log = paths.LOGS / "srtload.log"
        self.process = clients.Process("srtload", command, cwd=paths.BUILD, log=log, capture=True)


@contextmanager
def pushing(port: int, ids: list[str], path: Path, *options: object) -> Iterator[Load]:
    """Pushes without an end. Returns when all are live."""
    with owned(Load("push", port, ids, "-f", path, "-t", 0, *options)) as load:
        line = load.process.line().strip()
        if line != f"PUBLISHING {len(ids)}":
            raise BenchError(f"pushes were refused: {line} (log: {load.process.log})")
        yield load


def measured(server: Server, seconds: float, *others: int) -> tuple[Window, float]:
    """CPU and memory of the server for some seconds."""
    window, began = Window(server, *others), time.monotonic()
    window.open()
    time.sleep(seconds)
    window.close()
    return window, time.monotonic() - began


# ---- rows ----


def push(a: argparse.Namespace) -> list[Row]:
    rows = []
    for form in a.forms.split(","):
        options = ["-p", PASSPHRASE] if form != "plain" else []
        settings = {"MILLRACE_SRT__PASSPHRASE": PASSPHRASE} if options else {}
        if form != "plain" and a.server == "mediamtx":
            continue  # its passphrases belong to paths; only plain rows are compared
        server = made(a.server, **settings)
        with ExitStack() as stack:
            port, ids, _ = stack.enter_context(started(server, 1))
            before = server.usage().rss
            loss = 5 if form == "loss" else 0
            if loss:
                port = stack.enter_context(thin_link(port, loss=loss, delay=10, seed=1)).port
            load = stack.enter_context(pushing(port, ids, stream(5_000), "-L", a.latency, *options))
            time.sleep(3)
            window, took = measured(server, a.seconds)
            seen = load.report(load.process.finish(10))
        row = {
            "form": form,
            "core_pct": round(100 * window.cpu / took, 2),
            "rss_growth_kb": round((window.after.rss - before) / 1e3),
            "sent": seen["sent"],
            "retransmitted": seen["retransmitted"],
            "late_max_ms": seen["late_max_ms"],
            "other_cpu_pct": window.other_cpu(took),
        }
        rows.append(show(a, "push", row))
    return rows


def pushes(a: argparse.Namespace) -> list[Row]:
    server = made(a.server)
    path = stream(5_000)
    with started(server, a.pushes) as (port, ids, _), ExitStack() as stack:
        before = server.usage().rss
        load = stack.enter_context(pushing(port, ids, path, "-L", a.latency))
        time.sleep(3)
        window, took = measured(server, a.seconds, load.process.pid)
        late = _late(server, 5, a.latency) if isinstance(server, Gateway) else {}
        seen = load.report(load.process.finish(20))
        time.sleep(1)
        units = _units(server) if isinstance(server, Gateway) else []
    expected = [expected_units(path, chunks) for chunks in seen["chunks"]]
    row = {
        "pushes": a.pushes,
        "live": seen["live"],
        "core_pct": round(100 * window.cpu / took, 1),
        "core_pct_per_push": round(100 * window.cpu / took / a.pushes, 2),
        "rss_kb_per_push": round((window.after.rss - before) / 1e3 / a.pushes),
        "retransmitted": seen["retransmitted"],
        "dropped_by_sender": seen["dropped"],
        "late_max_ms": seen["late_max_ms"],
        "other_cpu_pct": window.other_cpu(took),
        **late,
    }
    if units:
        row |= {"units": sum(units), "expected": sum(expected), "units_lost": sum(expected) - sum(units)}
    return [show(a, "pushes", row)]


def _late(server: Gateway, seconds: int, latency: int) -> dict[str, float]:
    """Milliseconds from the encoder's socket to a viewer's, beyond the latency. Those of both clients are included."""
    urls = [f"http://127.0.0.1:{server.ports['http']}/{id}/live.flv" for id in server.ids]
    with owned(Viewers(urls, len(urls), seconds, "-p", len(urls), rate=50, warm=2)) as load:
        seen = load.until({})
    return {f"beyond_{p}_ms": round(seen["latency_ms"][p] - latency, 1) for p in ("p50", "p99")}


def _units(server: Gateway) -> list[int]:
    log = (paths.LOGS / f"{server.name}.log").read_text(errors="replace").splitlines()
    ended = (json.loads(line) for line in log if '"publish ended"' in line and line.startswith("{"))
    by_stream = {line["stream"]: int(line["units"]) for line in ended}
    return [by_stream[id] for id in server.ids if id in by_stream]


def viewers(a: argparse.Namespace) -> list[Row]:
    server = made(a.server)
    with (
        started(server, 1) as (port, ids, plays),
        pushing(port, ids, stream(2_500), "-L", a.latency) as source,
    ):
        time.sleep(3)
        window = Window(server, source.process.pid)
        with owned(
            Load("play", port, plays, "-L", a.latency, "-n", a.viewers, "-t", a.seconds, "-w", 4, "-r", 50)
        ) as load:
            seen = load.until(window.events)
    gb = seen["bytes"] / 1e9
    row = {
        "viewers": a.viewers,
        "connected": seen["connected"],
        "live": seen["live"],
        "cpu_s_per_gb": round(window.cpu / max(gb, 1e-9), 2),
        "core_pct": round(100 * window.cpu / seen["seconds"], 1),
        "viewer_mbps": round(gb * 8e3 / seen["seconds"] / max(1, seen["live"]), 2),
        "dropped": seen["dropped"],
        "lost": seen["lost"],
        "holes": seen["holes"],
        "client_cpu_pct": round(100 * seen["client_cpu_s"] / seen["seconds"], 1),
        "other_cpu_pct": window.other_cpu(seen["seconds"], seen["client_cpu_s"]),
    }
    return [show(a, "viewers", row)]


def glass(a: argparse.Namespace) -> list[Row]:
    server = made("millrace")
    with started(server, 1) as (port, ids, _), pushing(port, ids, stream(5_000), "-L", a.latency):
        time.sleep(3)
        assert isinstance(server, Gateway)
        return [show(a, "glass", _late(server, a.seconds, a.latency))]


def show(a: argparse.Namespace, what: str, row: Row) -> Row:
    row = {"what": what, "server": a.server, **row}
    print(json.dumps(row), flush=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


ROWS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "push": push,
    "pushes": pushes,
    "viewers": viewers,
    "glass": glass,
}


def main() -> int:
    parser = argparse.ArgumentParser("bench_srt", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=[*ROWS, "all"])
    parser.add_argument("-n", type=int, default=0, help="pushes (50) or viewers (300)")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--forms", default="plain,aes,loss")
    parser.add_argument("--servers", default="millrace")
    parser.add_argument("--latency", type=int, default=120, help="milliseconds")
    parser.add_argument("--limit", type=int, default=1800, help="seconds for everything")
    a = parser.parse_args()
    a.pushes, a.viewers = a.n or 50, a.n or 300
    try:
        set_limits(a.limit)
        clients.build("srt")
        for what in ROWS if a.what == "all" else [a.what]:
            for server in ["millrace"] if what == "glass" else a.servers.split(","):
                a.server = server
                ROWS[what](a)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
