"""`millrace doctor`: finds what is missing or wrong on this machine before the first stream."""

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

from gateway.ports.errors import GatewayError
from gateway.settings import Settings, missing_files

_LEAST_SPACE: Final = 100_000_000  # bytes; below it the database may fail
_GOOD_SPACE: Final = 2_000_000_000  # enough for recordings
_GOOD_FILES: Final = 4_096  # each viewer is an open file
_SOON: Final = 14  # days before a certificate's end
_TIME_ERROR: Final = 5  # adjtimex(2): "The system clock is not synchronized to a reliable server"


class FindingState(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not as well as it could, or not for long
    MISSING = "missing"  # the gateway would not start, or not serve


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked item. words: the result, and the remedy where something is wrong."""

    name: str
    state: FindingState
    words: str


def main(settings: Settings, as_json: bool = False) -> int:
    """Checks everything and prints the findings. Returns 1 where something is missing, else 0."""
    findings = examine(settings)
    sys.stdout.write(report_json(findings) if as_json else report(findings))
    return int(any(f.state is FindingState.MISSING for f in findings))


def examine(settings: Settings) -> list[Finding]:
    """Returns all findings, in the order of printing. Changes nothing on the machine."""
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
    """Returns one line for each finding, and a summary as the last line."""
    findings = list(findings)
    width = max(len(f.name) for f in findings)
    lines = [f"{f.state:<7}  {f.name:<{width}}  {f.words}" for f in findings]
    wrong = {state: sum(f.state is state for f in findings) for state in (FindingState.MISSING, FindingState.WARNING)}
    if not any(wrong.values()):
        lines.append("everything is in place")
    else:
        lines.append(f"{wrong[FindingState.MISSING]} missing, {wrong[FindingState.WARNING]} to look at")
    return "\n".join(lines) + "\n"


def report_json(findings: Iterable[Finding]) -> str:
    """Returns `[{"name", "state", "words"}]`."""
    return json.dumps([asdict(f) for f in findings], indent=2) + "\n"


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    words = ".".join(map(str, version))
    if version < (3, 11):
        return Finding("python", FindingState.MISSING, f"{words}; 3.11 or later is needed")
    return Finding("python", FindingState.OK, words)


def modules(
    settings: Settings, there: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None
) -> list[Finding]:
    """Checks packages whose absence shows only when they are used."""
    found = []
    if there("uvloop"):
        found.append(Finding("uvloop", FindingState.OK, "installed"))
    else:
        found.append(
            Finding("uvloop", FindingState.WARNING, "not installed: viewers cost about twice the processor time")
        )
    stores = (settings.channels, settings.objects, settings.registry, settings.vod.jobs, settings.admin.store)
    if any(url.startswith(("dynamodb:", "s3:")) for url in stores):
        aws = there("aioboto3")
        words = "installed" if aws else "not installed, but the settings name AWS stores: pip install 'millrace[aws]'"
        found.append(Finding("aioboto3", FindingState.OK if aws else FindingState.MISSING, words))
    return found


def programs(which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """Checks programs that only users need for a first try; the gateway never runs them."""
    found = []
    for name, use in (("ffmpeg", "push a test stream"), ("ffplay", "watch it")):
        path = which(name)
        words = path or f"not installed; not needed to serve, only to {use} from this machine"
        found.append(Finding(name, FindingState.OK, words))
    return found


# Runs in a process of its own, because native code that does not fit this machine may crash it.
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
    """Checks whether media workers can encode, and draw watermark texts in every script."""
    ask = [sys.executable, "-c", program]
    child = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 a constant command
    told = child.stdout.strip().split("|")
    if child.returncode or len(told) != 4:
        last = (child.stderr.strip().splitlines() or [f"it ended with {child.returncode}"])[-1]
        return [Finding("workers", FindingState.MISSING, f"no ladder, watermark, snapshot or film can be made: {last}")]
    version, absent, raqm, fribidi = told
    state = FindingState.WARNING if absent else FindingState.OK
    found = [Finding("workers", state, f"PyAV {version}" + (f" without {absent}" if absent else ", libx264, libx265"))]
    if which("fc-match") is None:
        words = "no fontconfig: texts have the characters of one font only (Debian: fontconfig, fonts-noto-cjk)"
        found.append(Finding("lettering", FindingState.WARNING, words))
    elif raqm != "1" or fribidi != "1":
        words = "Arabic, Hebrew and Indic texts are not shaped (Debian: libfribidi0)"
        found.append(Finding("lettering", FindingState.WARNING, words))
    else:
        found.append(Finding("lettering", FindingState.OK, "fontconfig, raqm and fribidi"))
    return found


def processes(settings: Settings, most: int | None = None, spreads: bool | None = None) -> Finding:
    """Checks the number of processes that share the ports."""
    from gateway.processes.worker_settings import SHARES_PORTS, cores, worker_count

    asked, most = worker_count(settings), most or cores()
    if asked > 1 and not (SHARES_PORTS if spreads is None else spreads):
        words = f"serve.workers is {asked}, but only Linux spreads connections over several processes"
        return Finding("processes", FindingState.MISSING, words)
    if asked == 1:
        more = f"; serve.workers = 0 uses all {most} cores" if most > 1 else ""
        return Finding("processes", FindingState.OK, f"one, on one core{more}")
    words = f"{asked} share the ports, on {most} core{'s' if most > 1 else ''}"
    if asked > most:
        return Finding("processes", FindingState.WARNING, f"{words}: more than there are cores only cost memory")
    return Finding("processes", FindingState.OK, words)


def open_files(limit: int | None = None) -> Finding:
    """Checks the hard limit of open files. The gateway raises the soft limit itself at start."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if most != resource.RLIM_INFINITY and most < _GOOD_FILES:
        return Finding(
            "open files", FindingState.WARNING, f"at most {most}, one for each viewer; raise the limit (ulimit -Hn)"
        )
    return Finding("open files", FindingState.OK, "no limit" if most == resource.RLIM_INFINITY else f"at most {most}")


def clock(now: float | None = None, synchronized: bool | None = None) -> Finding:
    """Checks the clock: signs expire by it, and players compare it with theirs."""
    now = time.time() if now is None else now
    installed = Path(__file__).stat().st_mtime
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if now < installed - 86_400:
        return Finding("clock", FindingState.MISSING, f"{shown} is before this program was installed: set the clock")
    if (_synchronized() if synchronized is None else synchronized) is False:
        return Finding(
            "clock", FindingState.WARNING, f"{shown}, not synchronized (NTP): signs may expire early or late"
        )
    return Finding("clock", FindingState.OK, shown)


def _synchronized() -> bool | None:
    """Returns whether the kernel reports a synchronized clock; None where it does not report it."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))  # modes 0: only reads
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def data_folder(folder: Path) -> list[Finding]:
    """Checks whether the data folder is writable or can be created, and the free space."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return [Finding("data folder", FindingState.MISSING, f"{there} is not a folder")]
    if not os.access(there, os.W_OK | os.X_OK):
        return [Finding("data folder", FindingState.MISSING, f"{there} cannot be written by this user")]
    words = str(folder) if there == folder else f"{folder} will be made"
    free = shutil.disk_usage(there).free
    state = (
        FindingState.MISSING if free < _LEAST_SPACE else FindingState.WARNING if free < _GOOD_SPACE else FindingState.OK
    )
    return [Finding("data folder", FindingState.OK, words), Finding("disk space", state, f"{free / 1e9:.1f} GB free")]


def files(settings: Settings) -> list[Finding]:
    return [Finding("file", FindingState.MISSING, line) for line in missing_files(settings)]


def certificate(cert: Path | None, key: Path | None, now: datetime | None = None) -> list[Finding]:
    """Checks whether certificate and key are readable, belong together and are valid now."""
    if cert is None:
        return [Finding("certificate", FindingState.OK, "none set: RTMPS, HTTPS and WSS stay closed")]
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(cert.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [Finding("certificate", FindingState.MISSING, f"{key} is not the key of {cert}")]
        words = (error.reason or "unreadable").replace("_", " ").lower()
        return [Finding("certificate", FindingState.MISSING, f"{cert} with {key} cannot be used: {words}")]
    except ValueError:
        return [Finding("certificate", FindingState.MISSING, f"{cert} is not a PEM certificate")]
    except OSError as error:
        return [Finding("certificate", FindingState.MISSING, f"{error.filename or cert}: {error.strerror}")]
    now = now or datetime.now(UTC)
    until, since = min(c.not_valid_after_utc for c in chain), chain[0].not_valid_before_utc
    if now > until:
        return [Finding("certificate", FindingState.MISSING, f"{cert} expired on {until:%Y-%m-%d}")]
    if now < since:
        return [Finding("certificate", FindingState.MISSING, f"{cert} holds from {since:%Y-%m-%d} on only")]
    days = (until - now).days
    return [
        Finding(
            "certificate", FindingState.WARNING if days < _SOON else FindingState.OK, f"{cert} holds for {days} days"
        )
    ]


def ports(settings: Settings) -> list[Finding]:
    """Checks which ports are in use, and whether a running gateway uses them."""
    found, seen = [], dict[tuple[str, int], str]()
    runs: bool | None = None
    for listener in sorted(settings.listeners(), key=lambda one: one.tls):
        name, host, port = listener.name, listener.host, listener.port
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if port and (other := seen.setdefault((host, port), name)) != name:
            found.append(Finding(f"port {name}", FindingState.MISSING, f"{where} is set for {other} too"))
            continue
        error = _cannot_bind(host, port)
        if error is None:
            found.append(Finding(f"port {name}", FindingState.OK, f"{where} is free" if port else "any free port"))
            continue
        if error.errno == errno.EADDRINUSE:
            if runs is None:
                runs = _is_millrace(settings)
            state, words = (
                (FindingState.OK, "used by the Millrace that runs here") if runs else (FindingState.MISSING, "in use")
            )
        else:
            state, words = FindingState.MISSING, (error.strerror or str(error)).lower()
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
    """Whether the program on the admin port answers like a gateway."""
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
    """Checks whether the channel store answers. Does not create a missing database."""
    from gateway.adapters.stores import open_stores, sqlite_path

    if settings.channels.startswith("sqlite:") and not sqlite_path(settings.channels).exists():
        return Finding("channel store", FindingState.OK, f"{sqlite_path(settings.channels)} will be made")

    async def ask() -> None:
        async with open_stores(settings) as stores:
            await stores.channels.check()

    try:
        asyncio.run(ask())
    except GatewayError as error:
        return Finding("channel store", FindingState.MISSING, str(error))
    return Finding("channel store", FindingState.OK, f"{settings.channels} answers")
