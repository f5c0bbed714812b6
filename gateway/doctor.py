"""`millrace doctor`: what on this machine is missing or in the way, before somebody waits for a picture."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import importlib.util
import json
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.hub.errors import HubError
from gateway.settings import Settings, missing_files

_LEAST_SPACE: Final = 100_000_000  # bytes; below it the database may fail
_GOOD_SPACE: Final = 2_000_000_000  # recordings want some
_GOOD_FILES: Final = 4_096  # a viewer is an open file
_SOON: Final = 14  # days before a certificate's end
_TIME_ERROR: Final = 5  # adjtimex(2): "The system clock is not synchronized to a reliable server"


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as well as it could, or not for long
    MISSING = "missing"  # the gateway would not start, or not serve


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; words: what was found, and what to do where something is wrong."""

    name: str
    state: State
    words: str


def main(settings: Settings, as_json: bool = False) -> int:
    """Looks at everything and prints what it found; 1 where something is missing, else 0."""
    findings = examine(settings)
    sys.stdout.write(report_json(findings) if as_json else report(findings))
    return int(any(f.state is State.MISSING for f in findings))


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which they are printed. Changes nothing on the machine."""
    return [
        python(),
        *modules(settings),
        *programs(),
        *workers(),
        processes(settings),
        open_files(),
        clock(),
        *data_folder(settings.data),
        *files(settings),
        *certificate(settings.tls.cert, settings.tls.key),
        *ports(settings),
        store(settings),
    ]


def report(findings: Iterable[Finding]) -> str:
    """One line each, and a last one that sums up."""
    findings = list(findings)
    width = max(len(f.name) for f in findings)
    lines = [f"{f.state:<7}  {f.name:<{width}}  {f.words}" for f in findings]
    wrong = {state: sum(f.state is state for f in findings) for state in (State.MISSING, State.WARNING)}
    if not any(wrong.values()):
        lines.append("everything is in place")
    else:
        lines.append(f"{wrong[State.MISSING]} missing, {wrong[State.WARNING]} to look at")
    return "\n".join(lines) + "\n"


def report_json(findings: Iterable[Finding]) -> str:
    """`[{"name", "state", "words"}]`."""
    return json.dumps([asdict(f) for f in findings], indent=2) + "\n"


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    words = ".".join(map(str, version))
    if version < (3, 11):
        return Finding("python", State.MISSING, f"{words}; 3.11 or later is needed")
    return Finding("python", State.OK, words)


def modules(
    settings: Settings, there: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None
) -> list[Finding]:
    """Packages whose absence shows only when they are used."""
    found = []
    if there("uvloop"):
        found.append(Finding("uvloop", State.OK, "installed"))
    else:
        found.append(Finding("uvloop", State.WARNING, "not installed: viewers cost about twice the processor time"))
    stores = (settings.channels, settings.objects, settings.registry, settings.vod.jobs, settings.admin.store)
    if any(url.startswith(("dynamodb:", "s3:")) for url in stores):
        aws = there("aioboto3")
        words = "installed" if aws else "not installed, but the settings name AWS stores: pip install 'millrace[aws]'"
        found.append(Finding("aioboto3", State.OK if aws else State.MISSING, words))
    return found


def programs(which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """What the gateway itself never runs, but whoever tries it out does."""
    found = []
    for name, use in (("ffmpeg", "push a test stream"), ("ffplay", "watch it")):
        path = which(name)
        words = path or f"not installed; not needed to serve, only to {use} from this machine"
        found.append(Finding(name, State.OK, words))
    return found


# What a worker would find: in a process of its own, as native code that does not fit this machine may end it.
_WORKER: Final = """
import av
from av.codec import Codec
from PIL import features
missing = []
for name in ("libx264", "libx265", "aac", "mjpeg"):
    try:
        Codec(name, "w")
    except ValueError:
        missing.append(name)
print(av.__version__, ",".join(missing), int(features.check("raqm")), int(features.check("fribidi")), sep="|")
"""


def workers(program: str = _WORKER, which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """Whether media workers can encode, and letter watermarks in every script."""
    ask = [sys.executable, "-c", program]
    child = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 our own words
    told = child.stdout.strip().split("|")
    if child.returncode or len(told) != 4:
        last = (child.stderr.strip().splitlines() or [f"it ended with {child.returncode}"])[-1]
        return [Finding("workers", State.MISSING, f"no ladder, watermark, snapshot or film can be made: {last}")]
    version, absent, raqm, fribidi = told
    state = State.WARNING if absent else State.OK
    found = [Finding("workers", state, f"PyAV {version}" + (f" without {absent}" if absent else ", libx264, libx265"))]
    if which("fc-match") is None:
        words = "no fontconfig: texts have the characters of one font only (Debian: fontconfig, fonts-noto-cjk)"
        found.append(Finding("lettering", State.WARNING, words))
    elif raqm != "1" or fribidi != "1":
        words = "Arabic, Hebrew and Indic texts are not shaped (Debian: libfribidi0)"
        found.append(Finding("lettering", State.WARNING, words))
    else:
        found.append(Finding("lettering", State.OK, "fontconfig, raqm and fribidi"))
    return found


def processes(settings: Settings, most: int | None = None, spreads: bool | None = None) -> Finding:
    """How many share the ports, and whether that makes sense here."""
    from gateway.cores.shares import SPREADS, cores, workers_of

    asked, most = workers_of(settings), most or cores()
    if asked > 1 and not (SPREADS if spreads is None else spreads):
        words = f"serve.workers is {asked}, but only Linux spreads connections over several processes"
        return Finding("processes", State.MISSING, words)
    if asked == 1:
        more = f"; serve.workers = 0 uses all {most} cores" if most > 1 else ""
        return Finding("processes", State.OK, f"one, on one core{more}")
    words = f"{asked} share the ports, on {most} core{'s' if most > 1 else ''}"
    if asked > most:
        return Finding("processes", State.WARNING, f"{words}: more than there are cores only cost memory")
    return Finding("processes", State.OK, words)


def open_files(limit: int | None = None) -> Finding:
    """The gateway raises the soft limit itself at its start; what counts is the hard one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if most != resource.RLIM_INFINITY and most < _GOOD_FILES:
        return Finding(
            "open files", State.WARNING, f"at most {most}, one for each viewer; raise the limit (ulimit -Hn)"
        )
    return Finding("open files", State.OK, "no limit" if most == resource.RLIM_INFINITY else f"at most {most}")


def clock(now: float | None = None, synchronized: bool | None = None) -> Finding:
    """Signs expire by it, and players compare it with theirs."""
    now = time.time() if now is None else now
    installed = Path(__file__).stat().st_mtime
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if now < installed - 86_400:
        return Finding("clock", State.MISSING, f"{shown} is before this program was installed: set the clock")
    if (_synchronized() if synchronized is None else synchronized) is False:
        return Finding("clock", State.WARNING, f"{shown}, not synchronized (NTP): signs may expire early or late")
    return Finding("clock", State.OK, shown)


def _synchronized() -> bool | None:
    """What the kernel says; None where it does not say."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))  # modes 0: only reads
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def data_folder(folder: Path) -> list[Finding]:
    """Whether it can be written (or made), and what space is left."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return [Finding("data folder", State.MISSING, f"{there} is not a folder")]
    if not os.access(there, os.W_OK | os.X_OK):
        return [Finding("data folder", State.MISSING, f"{there} cannot be written by this user")]
    words = str(folder) if there == folder else f"{folder} will be made"
    free = shutil.disk_usage(there).free
    state = State.MISSING if free < _LEAST_SPACE else State.WARNING if free < _GOOD_SPACE else State.OK
    return [Finding("data folder", State.OK, words), Finding("disk space", state, f"{free / 1e9:.1f} GB free")]


def files(settings: Settings) -> list[Finding]:
    return [Finding("file", State.MISSING, line) for line in missing_files(settings)]


def certificate(cert: Path | None, key: Path | None, now: datetime | None = None) -> list[Finding]:
    """Whether certificate and key are readable, belong together and hold."""
    if cert is None:
        return [Finding("certificate", State.OK, "none set: RTMPS, HTTPS and WSS stay closed")]
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(cert.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [Finding("certificate", State.MISSING, f"{key} is not the key of {cert}")]
        words = (error.reason or "unreadable").replace("_", " ").lower()
        return [Finding("certificate", State.MISSING, f"{cert} with {key} cannot be used: {words}")]
    except ValueError:
        return [Finding("certificate", State.MISSING, f"{cert} is not a PEM certificate")]
    except OSError as error:
        return [Finding("certificate", State.MISSING, f"{error.filename or cert}: {error.strerror}")]
    now = now or datetime.now(UTC)
    until, since = min(c.not_valid_after_utc for c in chain), chain[0].not_valid_before_utc
    if now > until:
        return [Finding("certificate", State.MISSING, f"{cert} expired on {until:%Y-%m-%d}")]
    if now < since:
        return [Finding("certificate", State.MISSING, f"{cert} holds from {since:%Y-%m-%d} on only")]
    days = (until - now).days
    return [Finding("certificate", State.WARNING if days < _SOON else State.OK, f"{cert} holds for {days} days")]


def ports(settings: Settings) -> list[Finding]:
    """Which ports are taken, and whether by a gateway that runs already."""
    listeners = [
        ("rtmp", settings.rtmp.host, settings.rtmp.port),
        ("http", settings.http.host, settings.http.port),
        ("ws", settings.ws.host, settings.ws.port),
        ("admin", settings.admin.host, settings.admin.port),
    ]
    if settings.has_tls:
        listeners += [
            ("rtmps", settings.rtmp.host, settings.rtmps.port),
            ("https", settings.http.host, settings.https.port),
            ("wss", settings.ws.host, settings.wss.port),
        ]
    found, seen = [], dict[tuple[str, int], str]()
    runs: bool | None = None
    for name, host, port in listeners:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if port and (other := seen.setdefault((host, port), name)) != name:
            found.append(Finding(f"port {name}", State.MISSING, f"{where} is set for {other} too"))
            continue
        error = _cannot_bind(host, port)
        if error is None:
            found.append(Finding(f"port {name}", State.OK, f"{where} is free" if port else "any free port"))
            continue
        if error.errno == errno.EADDRINUSE:
            if runs is None:
                runs = _is_millrace(settings)
            state, words = (State.OK, "used by the Millrace that runs here") if runs else (State.MISSING, "in use")
        else:
            state, words = State.MISSING, (error.strerror or str(error)).lower()
        found.append(Finding(f"port {name}", state, f"{where}: {words}"))
    return found


def _cannot_bind(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _is_millrace(settings: Settings) -> bool:
    """Whether what holds the admin port answers as a gateway does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.admin.host, settings.admin.host)
    place = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.admin.tls else "http"
    context = ssl._create_unverified_context() if settings.admin.tls else None  # noqa: S323 (nothing secret is sent)
    try:
        url = f"{scheme}://{place}:{settings.admin.port}/healthcheck"
        with urllib.request.urlopen(url, timeout=2, context=context) as reply:  # noqa: S310 (http or https)
            return bool(reply.read(16) == b"OK")
    except (OSError, ValueError, urllib.error.URLError):
        return False


def store(settings: Settings) -> Finding:
    """Whether the channel store answers; a database that does not exist yet is not made."""
    from gateway.adapters import open_stores, sqlite_path

    if settings.channels.startswith("sqlite:") and not sqlite_path(settings.channels).exists():
        return Finding("channel store", State.OK, f"{sqlite_path(settings.channels)} will be made")

    async def ask() -> None:
        async with open_stores(settings) as stores:
            await stores.channels.check()

    try:
        asyncio.run(ask())
    except HubError as error:
        return Finding("channel store", State.MISSING, str(error))
    return Finding("channel store", State.OK, f"{settings.channels} answers")
