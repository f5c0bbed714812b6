"""`millrace doctor`: finds what is missing or wrong on this machine before the first stream."""

import asyncio
import ctypes
import errno
import importlib.util
import json
import os
import resource
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.adapters.local.host import certificate_files
from gateway.lib.certificates import is_complete, outgoing_tls
from gateway.lib.extras import INSTALL_AWS, INSTALL_MOQ
from gateway.lib.network import own_listener, url_host
from gateway.lib.port_owner import port_in_use_text, port_owner
from gateway.lib.process import with_python_path
from gateway.lib.sockets import MOVABLE_PORTS, ListenError, is_absent
from gateway.ports.errors import GatewayError
from gateway.settings import Settings, SettingsError, missing_files
from gateway.settings.ladders import load_ladders
from gateway.settings.models import PortSharing, Transport
from gateway.settings.option_types import IN_DATABASE, port_range
from gateway.webrtc.sockets import DEFAULT_PORT

_MIN_BYTES: Final = 100_000_000  # bytes; below it the database may fail
_RECOMMENDED_BYTES: Final = 2_000_000_000  # bytes; enough for recordings
_RECOMMENDED_FILES: Final = 4_096  # each viewer is an open file
_WARNING_DAYS: Final = 14  # days before the end of a certificate at which a warning begins
_MAX_PORT: Final = 65_535
_TIME_ERROR: Final = 5  # adjtimex(2): "The system clock is not synchronized to a reliable server"


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but not well, or will fail soon
    MISSING = "missing"  # the gateway cannot start or serve


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. text: the result, and the remedy if something is wrong."""

    name: str
    state: CheckState
    text: str


def _ok(name: str, text: str) -> CheckResult:
    return CheckResult(name, CheckState.OK, text)


def _warning(name: str, text: str) -> CheckResult:
    return CheckResult(name, CheckState.WARNING, text)


def _missing(name: str, text: str) -> CheckResult:
    return CheckResult(name, CheckState.MISSING, text)


def main(settings: Settings, as_json: bool = False) -> int:
    """Checks everything and prints the findings. Returns 1 if something is missing, else 0."""
    findings = examine(settings)
    sys.stdout.write(report_json(findings) if as_json else report(findings))
    return int(any(f.state is CheckState.MISSING for f in findings))


def examine(settings: Settings) -> list[CheckResult]:
    """Returns all findings, in the order of printing. It changes no file. In a bucket, it makes and deletes objects."""
    return [
        check_python(),
        *check_modules(settings),
        *check_programs(),
        *check_workers(),
        *check_captions(settings.captions.engine),
        check_processes(settings),
        check_open_files(),
        check_clock(),
        *check_data_folder(settings.data),
        check_token(settings),
        *check_files(settings),
        *check_certificate(*certificate_files(settings), acme=bool(settings.tls.acme)),
        *check_ports(settings),
        *check_rtsp_ports(settings),
        *check_stores(settings),
        *check_bucket(settings),
    ]


def report(findings: Sequence[CheckResult]) -> str:
    """Returns one line for each finding, and a summary as the last line."""
    width = max(len(f.name) for f in findings)
    lines = [f"{f.state:<7}  {f.name:<{width}}  {f.text}" for f in findings]
    missing, warnings = (sum(f.state is state for f in findings) for state in (CheckState.MISSING, CheckState.WARNING))
    in_place = not missing and not warnings
    lines.append("everything is in place" if in_place else f"{missing} missing, {warnings} to look at")
    return "\n".join(lines) + "\n"


def report_json(findings: Iterable[CheckResult]) -> str:
    """Returns `[{"name", "state", "words"}]`."""
    return json.dumps([{"name": f.name, "state": f.state, "words": f.text} for f in findings], indent=2) + "\n"


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> CheckResult:
    text = ".".join(map(str, version))
    if version < (3, 11):
        return _missing("python", f"{text}; 3.11 or later is needed")
    return _ok("python", text)


def check_modules(
    settings: Settings, installed: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None
) -> Iterator[CheckResult]:
    """Checks packages that are loaded only when they are used."""
    if installed("uvloop"):
        yield _ok("uvloop", "installed")
    else:
        yield _warning("uvloop", "not installed: viewers cost about twice the processor time")
    if any(url.startswith(("dynamodb:", "s3:")) for url in settings.store_urls()):
        if installed("aioboto3"):
            yield _ok("aioboto3", "installed")
        else:
            yield _missing("aioboto3", f"not installed, but the settings name AWS stores: {INSTALL_AWS}")
    if settings.moq.port >= 0:
        if installed("moq"):
            yield _ok("moq-rs", "installed")
        else:
            yield _missing("moq-rs", f"not installed, but moq.port is set: {INSTALL_MOQ}")


def check_programs(which: Callable[[str], str | None] = shutil.which) -> Iterator[CheckResult]:
    """Checks programs for a first test by the user. The gateway never runs them."""
    for name, use in (("ffmpeg", "push a test stream"), ("ffplay", "watch it")):
        yield _ok(name, which(name) or f"not installed; not needed to serve, only to {use} from this machine")


# Runs in its own process, because native code for another processor may crash the process.
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


# What may lack fonts: a character of it, and the Debian package. In an image, they are the build argument FONTS.
_SCRIPTS: Final = (
    ("Devanagari and other scripts", "0915", "fonts-noto-core"),
    ("Chinese, Japanese and Korean", "4e2d", "fonts-noto-cjk"),
    ("emoji", "1f389", "fonts-noto-color-emoji"),
)


def _run(command: Sequence[str], seconds: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program. One without an end within `seconds`, as on a slow card, has failed with this reason."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, **options)  # noqa: S603
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {seconds:.0f} s")


def _has_font(code: str) -> bool:
    found = _run(["fc-list", f":charset={code}", "family"])
    return bool(found.stdout.strip() or found.returncode)  # a program that fails says nothing about fonts


def check_workers(
    program: str = _WORKER,
    which: Callable[[str], str | None] = shutil.which,
    has_font: Callable[[str], bool] = _has_font,
) -> Iterator[CheckResult]:
    """Checks whether media workers can encode, and draw watermark texts in every script."""
    child = _run([sys.executable, "-P", "-c", program])
    values = child.stdout.strip().split("|")
    if child.returncode or len(values) != 4:
        last_line = (child.stderr.strip().splitlines() or [f"it ended with {child.returncode}"])[-1]
        yield _missing("workers", f"no ladder, watermark, snapshot or video on demand can be made: {last_line}")
        return
    version, absent, raqm, fribidi = values
    if absent:
        yield _warning("workers", f"PyAV {version} without {absent}")
    else:
        yield _ok("workers", f"PyAV {version}, libx264, libx265")
    if which("fc-match") is None:
        text = "no fontconfig: texts have the characters of one font only (Debian: fontconfig, fonts-noto-cjk)"
        yield _warning("lettering", text)
    elif raqm != "1" or fribidi != "1":
        yield _warning("lettering", "Arabic, Hebrew and Indic texts are not shaped (Debian: libfribidi0)")
    elif lacking := [(name, package) for name, code, package in _SCRIPTS if not has_font(code)]:
        names, packages = (", ".join(values) for values in zip(*lacking, strict=True))
        yield _warning("lettering", f"no fonts for {names} (Debian: {packages})")
    else:
        yield _ok("lettering", "fontconfig, raqm and fribidi, fonts for every script")


# Also in its own process: a model may need much memory, and a damaged one may end the process.
_ENGINE: Final = """
import sys
from gateway.workers.programs.speech.engine import EngineUnusable, load
try:
    load(sys.argv[1], print)
except EngineUnusable as error:
    sys.exit(str(error))
"""


def check_captions(engine: str) -> Iterator[CheckResult]:
    """Checks whether the engine for speech to text can be loaded. A program is only looked up, not started."""
    kind, _, argument = engine.partition(":")
    if kind == "command":
        name = shlex.split(argument)[0]
        found = shutil.which(name)
        yield _ok("captions", found) if found else _missing("captions", f"captions.engine: there is no program {name}")
    elif kind:
        command = [sys.executable, "-P", "-c", _ENGINE, engine]
        child = _run(command, 120, env=with_python_path(os.environ))
        reason = (child.stderr.strip().splitlines() or [f"it ended with {child.returncode}"])[-1]
        yield _missing("captions", f"{kind}: {reason}") if child.returncode else _ok("captions", f"{kind} is loaded")


def check_processes(settings: Settings, available: int | None = None, shares_ports: bool | None = None) -> CheckResult:
    """Checks the number of processes that share the ports."""
    from gateway.lib.control_group import cores
    from gateway.processes.worker_settings import SHARES_PORTS, worker_count

    count, available = worker_count(settings), available or cores()
    if count > 1 and not (SHARES_PORTS if shares_ports is None else shares_ports):
        text = f"serve.workers is {count}, but only Linux spreads connections over several processes"
        return _missing("processes", text)
    if count == 1:
        hint = f"; serve.workers = 0 uses all {available} cores" if available > 1 else ""
        return _ok("processes", f"one, on one core{hint}")
    text = f"{count} share the ports, on {available} core{'s' if available > 1 else ''}"
    if count > available:
        return _warning("processes", f"{text}: more than there are cores only cost memory")
    return _ok("processes", text)


def check_open_files(limit: int | None = None) -> CheckResult:
    """Checks the hard limit of open files. The gateway raises the soft limit itself at start."""
    maximum = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if maximum != resource.RLIM_INFINITY and maximum < _RECOMMENDED_FILES:
        return _warning("open files", f"at most {maximum}, one for each viewer; raise the limit (ulimit -Hn)")
    return _ok("open files", "no limit" if maximum == resource.RLIM_INFINITY else f"at most {maximum}")


def check_clock(now: float | None = None, synchronized: bool | None = None) -> CheckResult:
    """Checks the clock. It decides when signatures expire, and players compare it with their clock."""
    now = time.time() if now is None else now
    installed = Path(__file__).stat().st_mtime
    now_text = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if now < installed - 86_400:
        return _missing("clock", f"{now_text} is before this program was installed: set the clock")
    if (_synchronized() if synchronized is None else synchronized) is False:
        return _warning("clock", f"{now_text}, not synchronized (NTP): signatures may expire early or late")
    return _ok("clock", now_text)


def _synchronized() -> bool | None:
    """Returns whether the kernel reports a synchronized clock; None if it does not report it."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))  # modes = 0 only reads
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_data_folder(folder: Path) -> list[CheckResult]:
    """Checks whether the data folder is writable or can be created, and the free space."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return [_missing("data folder", f"{existing} is not a folder")]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [_missing("data folder", f"{existing} cannot be written by this user")]
    text = str(folder) if existing == folder else f"{folder} will be created"
    free = shutil.disk_usage(existing).free
    make_finding = _missing if free < _MIN_BYTES else _warning if free < _RECOMMENDED_BYTES else _ok
    return [_ok("data folder", text), make_finding("disk space", f"{free / 1e9:.1f} GB free")]


def check_files(settings: Settings) -> list[CheckResult]:
    """Checks whether the files that the options name can be read, and have what the start needs of them."""
    if missing := missing_files(settings):
        return [_missing("file", line) for line in missing]
    from gateway.playback.cloudfront_keys import load_keys

    found: list[str] = []
    for load in (
        lambda: outgoing_tls(settings.tls.ca),
        lambda: load_keys(settings.cloudfront.public_keys),
        lambda: load_ladders(settings.transcode.ladders),
    ):
        try:
            load()
        except SettingsError as error:
            found += (f"transcode.ladders: {problem}" for problem in error.problems)
        except (GatewayError, ListenError) as error:
            found.append(str(error))
    return [_missing("file", line) for line in found]


def check_certificate(
    cert: Path | None, key: Path | None, now: datetime | None = None, *, acme: bool = False
) -> list[CheckResult]:
    """Checks whether certificate and key are readable, belong together and are valid now, and the chain."""
    if cert is None:
        return [_ok("certificate", "none set: RTMPS, HTTPS and WSS stay closed")]
    if acme and not cert.exists():
        text = "none yet: the gateway requests it (tls.acme), and the authority checks port 80 or 443 of its names"
        return [_warning("certificate", text)]
    from cryptography import x509

    try:
        chain = x509.load_pem_x509_certificates(cert.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [_missing("certificate", f"{key} is not the key of {cert}")]
        text = (error.reason or "unreadable").replace("_", " ").lower()
        return [_missing("certificate", f"{cert} with {key} cannot be used: {text}")]
    except ValueError:
        return [_missing("certificate", f"{cert} is not a PEM certificate")]
    except OSError as error:
        return [_missing("certificate", f"{error.filename or key or cert}: {error.strerror}")]
    now = now or datetime.now(UTC)
    expires, valid_from = min(c.not_valid_after_utc for c in chain), chain[0].not_valid_before_utc
    if now > expires:
        return [_missing("certificate", f"{cert} expired on {expires:%Y-%m-%d}")]
    if now < valid_from:
        return [_missing("certificate", f"{cert} is valid only from {valid_from:%Y-%m-%d}")]
    days = (expires - now).days
    text = f"{cert} is valid for {days} days"
    if not is_complete(chain):
        text += ", but its chain is incomplete, so phones, OBS and ffmpeg may refuse it: use fullchain.pem"
        return [_warning("certificate", text)]
    make_finding = _warning if days < _WARNING_DAYS else _ok
    return [make_finding("certificate", text)]


def check_ports(settings: Settings) -> Iterator[CheckResult]:
    """Checks which ports are in use, and whether a running gateway uses them."""
    seen: dict[tuple[str, int, str], str] = {}
    is_running: bool | None = None
    for name, host, port, transport in _bindings(settings):
        label, address = f"port {name}", f"{url_host(host)}:{port}"
        if transport == "udp":
            address += " for UDP"
        if port > _MAX_PORT:
            yield _missing(label, f"{address}: {name}.port + serve.workers - 1 is above {_MAX_PORT}")
        elif port and (other := seen.setdefault((host, port, transport), name)) != name:
            yield _missing(label, f"{address} is set for {other} too")
        elif (error := _cannot_bind(host, port, transport)) is None:
            yield _ok(label, f"{address} is free" if port else "any free port")
        elif error.errno != errno.EADDRINUSE:
            yield _missing(label, f"{address}: {(error.strerror or str(error)).lower()}")
        else:
            if is_running is None:
                is_running = _is_millrace(settings)
            if is_running:
                owner = port_owner(port, transport=transport)
                text = f"{address}: used by the Millrace that runs here"
                yield _ok(label, f"{text} ({owner})" if owner else text)
            elif (name == "webrtc" and settings.webrtc.port == DEFAULT_PORT) or port == MOVABLE_PORTS.get(name):
                yield _warning(label, f"{address} is in use: another port will be used")
            else:
                yield _missing(label, port_in_use_text(name, port, host, transport=transport))


def check_rtsp_ports(settings: Settings) -> list[CheckResult]:
    """Checks whether two UDP ports are free for RTSP. A running gateway has two of them."""
    rtsp = settings.rtsp
    if rtsp.port < 0 or not rtsp.udp_ports:
        return []
    pairs = ((port, port + 1) for port in port_range(rtsp.udp_ports)[:-1:2])
    if any(all(_cannot_bind(rtsp.host, port, "udp") is None for port in pair) for pair in pairs):
        return [_ok("UDP of RTSP", f"two ports of {rtsp.udp_ports} are free")]
    if _is_millrace(settings):
        return [_ok("UDP of RTSP", f"{rtsp.udp_ports}: used by the Millrace that runs here")]
    return [_warning("UDP of RTSP", f"no two ports of {rtsp.udp_ports} are free: media will go over TCP only")]


def _bindings(settings: Settings) -> Iterator[tuple[str, str, int, Transport]]:
    """Yields name, host, port and transport of all ports of all processes.

    Processes share the port of a listener, or each process has its own port.
    """
    from gateway.processes.worker_settings import worker_count

    for listener in sorted(settings.listeners(), key=lambda listener: listener.tls):
        own_ports = listener.sharing is PortSharing.OWN_PORTS and listener.port
        for number in range(worker_count(settings) if own_ports else 1):
            for transport in listener.transports if listener.port else listener.transports[:1]:
                yield listener.name, listener.host, listener.port + number, transport


def _cannot_bind(host: str, port: int, transport: Transport) -> OSError | None:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error
    for family, _, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                if kind is socket.SOCK_STREAM:  # for UDP, the option would also allow a port that is in use
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if len(found) == 1 or not is_absent(address[0], error):
                return error
    return None


def _is_millrace(settings: Settings) -> bool:
    """Returns whether the program on the admin port answers like a gateway."""
    scheme = "https" if settings.admin.tls else "http"
    context = ssl._create_unverified_context() if settings.admin.tls else None  # noqa: S323 (nothing secret is sent)
    try:
        url = f"{scheme}://{url_host(own_listener(settings.admin.host))}:{settings.admin.port}/healthcheck"
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(url, timeout=2) as reply:
            return bool(reply.read(16) == b"OK")
    except (OSError, ValueError, urllib.error.URLError):
        return False


def check_token(settings: Settings) -> CheckResult:
    """Checks the admin token, and names the way to a new one."""
    from gateway.adapters.local.credentials import admin_token

    try:
        token = admin_token(settings)
    except GatewayError as error:
        return _missing("admin token", str(error))
    if token.path is None:
        return _ok("admin token", "set in the settings")
    if not token.is_known:
        return _ok("admin token", "will be made and printed at the first start")
    return _ok("admin token", f"its hash is in {token.path}; `millrace token reset` makes a new token")


def check_bucket(settings: Settings) -> Sequence[CheckResult]:
    """Tries what is needed of the bucket of `objects`. Without lifecycle rules, only `millrace storage` fails."""
    if not settings.objects.startswith("s3://"):
        return []
    from gateway.adapters.aws.bucket_check import BucketCheck
    from gateway.adapters.stores import open_aws

    bucket = settings.objects.removeprefix("s3://")

    async def tries() -> list[tuple[str, str]]:
        async with open_aws(settings.objects, settings.s3, settings.tls.ca) as aws:
            return [found async for found in BucketCheck(aws, bucket).run()]

    try:
        found = asyncio.run(tries())
    except GatewayError as error:
        return [_missing("bucket", str(error))]
    return [
        (_warning if name == "lifecycle" else _missing)(f"bucket, {name}", reason)
        if reason
        else _ok(f"bucket, {name}", "works")
        for name, reason in found
    ]


async def _check_database(settings: Settings) -> CheckResult:
    """Checks the tables in PostgreSQL. Raises StoreUnusable, ListenError."""
    from gateway.adapters.postgres.connections import SCHEMA, PostgresConnections

    stored = await PostgresConnections(settings.database.get_secret_value(), settings.tls.ca).schema()
    if stored < SCHEMA:
        text = f"the database has schema {stored}, this version needs {SCHEMA}: the first server that starts makes it"
        return _warning("channel store", text)
    return _ok("channel store", f"the database answers, its schema is {stored}")


def check_stores(settings: Settings) -> Iterator[CheckResult]:
    """Checks whether the stores can be used. It creates and upgrades nothing."""
    from gateway.adapters.stores import local_databases, open_channels

    async def check_remote() -> CheckResult:
        if settings.channels == IN_DATABASE:
            return await _check_database(settings)
        async with open_channels(settings) as channels:
            if channels is not None:
                await channels.check()
        return _ok("channel store", f"{settings.channels} answers")

    required = ("channels", "registry")
    databases = local_databases(settings)
    if "channels" not in databases:
        try:
            yield asyncio.run(check_remote())
        except (GatewayError, ListenError) as error:
            yield _missing("channel store", str(error))
    for name, (path, database) in databases.items():
        label = f"{name.removesuffix('s') if name == 'channels' else name} store"
        try:
            yield _ok(label, database.inspect(path))
        except (GatewayError, OSError) as error:
            if name in required:
                yield _missing(label, str(error))
            else:
                yield _warning(label, f"{error}; live streams go on without it")
