"""The wheel, installed into an empty environment away from the checkout: every command that the manual names works."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.settings.layers import OPTIONS
from tests.support.gateway import FAR, START_WITHIN, http
from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
VECTOR = ("70ef9b07-adbe-478d-b098-d7c8efd84a98", "1670371200", "5db080c8cdca8764de881bc04e61e2b1")
SECRET = "nodemedia2017privatekey"
TOKEN = "an-admin-token-of-this-test"


def done(command: list[str], cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a command without access to this checkout and to the settings of the user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "PYTHON"))}
    return subprocess.run(command, cwd=cwd, env=kept | environ, capture_output=True, text=True, timeout=at_most(300))


def must(command: list[str], cwd: Path, **environ: str) -> str:
    found = done(command, cwd, **environ)
    assert found.returncode == 0, f"{' '.join(command[:6])}: {found.returncode}\n{found.stdout}\n{found.stderr}"
    return found.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the backend that is installed here: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    must([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)], folder)
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and what the lock file names; home: an empty folder to work in."""

    bin: Path
    home: Path

    def millrace(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return done([str(self.bin / "millrace"), *arguments], self.home, **environ)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    venv, home = folder / "venv", folder / "home"
    home.mkdir()
    must([sys.executable, "-m", "venv", "--without-pip", str(venv)], folder)
    into = [*PIP, "--python", str(venv / "bin" / "python"), "install"]
    must([*into, "--no-deps", "--no-index", str(wheel)], folder)
    (packages,) = venv.glob("lib/python*/site-packages")
    link_locked(packages)
    return Installed(venv / "bin", home)


def link_locked(packages: Path) -> None:
    """Links the packages that the lock file names, which `make setup` has installed from it by their hashes.

    To install them again takes half a minute of CPU; `test_installers.py` does it at night.
    """
    for name, marker in re.findall(r"^([\w.-]+)==\S+( ;.*)?", (ROOT / "requirements.lock").read_text(), re.M):
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            assert marker, f"{name} is in the lock file, and not installed"
            continue
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(str(found.locate_file(top)))


def test_the_wheel_contains_the_program_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"gateway", "proxy"}
    assert {name.partition("/")[0] for name in names} == {*packages, wheel.name.rpartition("-py3")[0] + ".dist-info"}
    assert "gateway/_config/default.toml" in names
    files = (path for package in packages for path in (ROOT / package).rglob("*") if path.is_file())
    shipped = {path.relative_to(ROOT).as_posix() for path in files}
    wanted = {path for path in shipped if "__pycache__" not in path and not path.endswith(".pyc")}
    # The HAProxy front is configuration with an image of its own.
    wanted = {path for path in wanted if not path.startswith(("proxy/haproxy/", "proxy/README.md"))}
    assert wanted - set(names) == set(), "in the checkout and not in the wheel"
    assert {name for name in names if name.endswith(".pyc") or "haproxy" in name} == set()


def test_the_installed_program_comes_from_the_wheel(installed: Installed) -> None:
    where = must([str(installed.bin / "python"), "-c", "import gateway; print(gateway.__file__)"], installed.home)
    assert Path(where.strip()).is_relative_to(installed.bin.parent)


def test_the_version_option_prints_the_version(installed: Installed) -> None:
    found = installed.millrace("--version")
    assert (found.returncode, found.stderr) == (0, "")
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\S*\n", found.stdout)
    assert must([str(installed.bin / "python"), "-m", "gateway", "--version"], installed.home) == found.stdout


def test_the_configuration_is_found_and_printed(installed: Installed) -> None:
    found = installed.millrace("check-config", MILLRACE_RTMP__PORT="1936")
    assert found.returncode == 0, found.stderr
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if " = " in line}
    assert lines.keys() == OPTIONS.keys()
    assert "1936" in lines["rtmp.port"] and "MILLRACE_RTMP__PORT" in lines["rtmp.port"]
    assert "default.toml" in lines["http.port"]
    assert str(ROOT) not in found.stdout
    assert installed.millrace("check-config", "--profile", "container").returncode == 0


def test_a_mistake_gives_a_one_line_error(installed: Installed) -> None:
    found = installed.millrace("check-config", MILLRACE_RTMP__PROT="1")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "millrace: unknown variable MILLRACE_RTMP__PROT; did you mean MILLRACE_RTMP__PORT?\n"


def test_an_edge_without_a_gateway_gives_an_error(installed: Installed) -> None:
    found = installed.millrace("edge")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "millrace: an edge needs to know where streams are: set registry, or edge.upstream\n"
    as_module = done([str(installed.bin / "python"), "-m", "proxy"], installed.home)
    assert (as_module.returncode, as_module.stderr) == (found.returncode, found.stderr)


def test_signing_gives_the_known_stream_key(installed: Installed) -> None:
    id, expires, digest = VECTOR
    found = installed.millrace(
        "sign", "--id", id, "--expires", expires, "--algorithm", "md5", "--secret", SECRET
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{expires}-{digest}\n", "")
    verdict = installed.millrace("verify", "--id", id, "--key", found.stdout.strip(), "--secret", SECRET)
    assert (verdict.returncode, verdict.stdout) == (1, "expired\n")


@dataclass
class Serving:
    process: subprocess.Popen[bytes]
    log: Path
    ports: dict[str, int] = field(default_factory=dict)

    def get(self, path: str, port: str = "http") -> bytes:
        reply = http("GET", f"http://127.0.0.1:{self.ports[port]}{path}")
        assert reply.status == 200, f"{path}: {reply.status} {reply.text[:300]}"
        return reply.body


@pytest.fixture(scope="module")
def serving(installed: Installed) -> Iterator[Serving]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "PYTHON"))}
    free = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN")}
    loopback = {f"MILLRACE_{name}__HOST": "127.0.0.1" for name in ("RTMP", "HTTP", "WS")}
    log = installed.home / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(installed.bin / "millrace"), "serve"],
            cwd=installed.home, env=kept | free | loopback | {"MILLRACE_ADMIN__TOKEN": TOKEN},
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    found = Serving(process, log)
    try:
        ports, end = installed.home / "var" / "ports.json", time.monotonic() + at_most(START_WITHIN)
        while not ports.exists():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.02)
        found.ports = json.loads(ports.read_text())
        yield found
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(at_most(START_WITHIN)) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def test_the_installed_program_serves_health_checks_and_the_api(serving: Serving) -> None:
    assert serving.get("/healthcheck").strip() == b"OK"
    assert serving.get("/healthcheck", "admin").strip() == b"OK"
    made = http("POST", f"http://127.0.0.1:{serving.ports['admin']}/videostream", body={"outdate": FAR},
                headers={"Authorization": f"Bearer {TOKEN}"})  # fmt: skip
    assert made.status == 200, made.text
    assert made.json()["id"]


def loaded(serving: Serving, page: str, port: str, below: tuple[str, ...]) -> set[str]:
    """Returns the page and all files that it references below `below`. Each must be in the wheel."""
    seen: set[str] = set()
    waiting = [page]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        content = serving.get(path, port)
        assert content
        if path.endswith((".min.js", ".png")) or "/vendor/" in path:
            continue
        body = content.decode()
        named = re.findall(
            r"""(?:\b(?:src|href)=["']?|\bfrom\s*["']|\bimport\s*["']|[^@{]import\(\s*["'])([^"'\s>]+)""", body
        )
        paths = [name.partition("?")[0] for name in named if name.startswith(("/", "./", "../"))]  # no bare specifiers
        here = [urllib.parse.urljoin(path, name) for name in paths]
        waiting += [one for one in here if one.startswith(below) and "$" not in one]
    return seen


@pytest.mark.parametrize(
    "page", ["/c1/flv.html", "/c1/index.html", "/c1/hls.html", "/c1/dash.html", "/c1/instant.html", "/broadcast.html"]
)
def test_all_files_of_a_playback_page_are_in_the_wheel(serving: Serving, page: str) -> None:
    seen = loaded(serving, page, "http", ("/_player/",))
    assert any(path.endswith(".js") for path in seen) and any(path.endswith(".css") for path in seen), seen


@pytest.mark.parametrize("page", ["/", "/docs", "/console/broadcast.html"])
def test_all_files_of_a_console_page_are_in_the_wheel(serving: Serving, page: str) -> None:
    seen = loaded(serving, page, "admin", ("/_player/", "/console/"))
    assert any(path.endswith(".js") for path in seen) and any(path.endswith(".css") for path in seen), seen


def test_the_program_ends_after_sigterm(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(at_most(START_WITHIN)) == 0, serving.log.read_text()[-3000:]
