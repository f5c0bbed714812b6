"""The image of the Dockerfile, built and run by podman on a machine that pulls no images.

debootstrap makes the base image from Debian's packages. Only the `FROM` lines of the Dockerfile name it instead.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.clients import pull, take_of
from tests.support.free_ports import free_ports
from tests.support.gateway import START_WITHIN, Channel, Gateway, faults
from tests.support.media import Film, judge
from tests.support.run_folder import run_folder
from tests.support.separate_environment import making
from tests.support.time_outs import at_most

ROOT = Path(__file__).parents[2]
COMPOSED = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["x-millrace"]
STOP_SECONDS = int(COMPOSED["stop_grace_period"].removesuffix("s"))
DATA = "/var/lib/millrace"
# Ports in the container. That of WebRTC is equal inside and outside, so each container has another.
_TCP = {"rtmp": 1935, "rtmps": 1938, "http": 8080, "https": 8443, "ws": 8081, "wss": 8444, "admin": 8000}
_UDP = {"srt": 8890, "srtla": 5000}

_BASE = "localhost/millrace-tests-base:bookworm"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_CLEAN = """DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
"""
_FROM = re.compile(r"^FROM python:3\.11-slim-bookworm@sha256:\w+", re.MULTILINE)
_PROGRAMS = ("podman", "runc", "iptables", "debootstrap")
# With these files pip reaches the index of packages that this machine uses. They do not become part of the image.
_INDEX = ("/etc/pip.conf", "/etc/ssl/certs")
_BUILD_SECONDS = 900.0


def need_containers() -> None:
    """Skips the test where no container can be started, also where CI is set: containers are no Debian package."""
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid():
        pytest.skip("containers with published ports need root")
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
    if subprocess.run(unshare, capture_output=True, timeout=at_most(20), check=False).returncode:
        pytest.skip("this machine allows no new namespaces")


def podman(*words: str, seconds: float = 60, expected: int | None = 0, merged: bool = False) -> str:
    """Runs podman and returns its output. expected: its exit code; None: any. merged: with what it wrote to stderr."""
    done = subprocess.run(
        ["podman", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        timeout=at_most(seconds),
        check=False,
        cwd=run_folder(),  # conmon leaves a file there when the kernel has ended a process for its memory
        env={**os.environ, "CONTAINERS_CONF": str(_configuration())},
    )
    said = f"{done.stdout[-3000:]}{(done.stderr or '')[-3000:]}"
    assert expected in (None, done.returncode), f"podman {' '.join(words[:2])} ended with {done.returncode}: {said}"
    return done.stdout


def _configuration() -> Path:
    """Podman raises the limits of processes by default, which a root without CAP_SYS_RESOURCE may not do."""
    path, files = run_folder() / "containers.conf", resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    text = (
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]\n[engine]\nruntime = "runc"\n'
    )
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.rename(path)
    return path


def image() -> str:
    """Builds the Dockerfile once in a run. Returns the id of the image."""
    need_containers()
    made = run_folder() / "millrace.image"
    with making("container-image"):
        if not made.exists():
            made.write_text(build())
    return made.read_text()


def build(*options: str, tag: str = "localhost/millrace-tests") -> str:
    """Builds the Dockerfile, and returns the id of the image. options: more of `podman build`."""
    text, count = _FROM.subn(f"FROM {_base_image()}", (ROOT / "Dockerfile").read_text())
    assert count == text.count("\nFROM ") > 0
    with tempfile.TemporaryDirectory(prefix="millrace-image-") as name:
        file, id_file = Path(name) / "Dockerfile", Path(name) / "id"
        file.write_text(text)
        index = [f"--volume={path}:{path}:ro" for path in _INDEX if Path(path).exists()]
        # Docker's format has HEALTHCHECK; that of OCI has not.
        how = ["--network=host", "--isolation=chroot", "--format=docker", *index, *options]
        podman(
            "build", *how, f"--tag={tag}", f"--iidfile={id_file}", f"--file={file}", str(ROOT), seconds=_BUILD_SECONDS
        )
        return id_file.read_text().strip()


def _base_image() -> str:
    """Returns an image with Debian's Python. It stays on the machine, because it takes minutes."""
    if podman("images", "--quiet", _BASE).strip():
        return _BASE
    with tempfile.TemporaryDirectory(prefix="millrace-base-") as name:
        root, archive = Path(name) / "root", Path(name) / "root.tar"
        make = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        done = subprocess.run(make, capture_output=True, text=True, timeout=at_most(_BUILD_SECONDS), check=False)
        if done.returncode:
            pytest.skip(f"no base image can be made: {(done.stderr or done.stdout).strip()[-300:]}")
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for folder in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        # As in the official image: no layer keeps the packages that it installed.
        (root / "etc/apt/apt.conf.d/docker-clean").write_text(_CLEAN)
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], timeout=at_most(_BUILD_SECONDS), check=True)
        podman("import", str(archive), _BASE, seconds=_BUILD_SECONDS)
    return _BASE


def host_address() -> str:
    """The address of this machine for containers."""
    return podman("network", "inspect", "podman", "--format={{range .Subnets}}{{.Gateway}}{{end}}").strip()


@contextlib.contextmanager
def volume() -> Iterator[str]:
    """A volume for the data of a container."""
    name = f"millrace-tests-{secrets.token_hex(6)}"
    podman("volume", "create", name)
    try:
        yield name
    finally:
        podman("volume", "rm", "--force", name, expected=None)


class Container(Gateway):
    """A gateway in a container with the options of `deploy/compose.yaml`, and with all its ports published.

    data: its volume. options: more of `podman run`, before the image. arguments: of the program, instead of `serve`.
    """

    def __init__(
        self, data: str, *options: str, arguments: tuple[str, ...] = (), settings: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.token = f"millrace-tests-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
        numbers = {**_TCP, **_UDP}
        webrtc, *chosen = free_ports(1 + len(numbers))
        self.ports = {"webrtc": webrtc, **dict(zip(numbers, chosen, strict=True))}
        published = [f"{self.ports[name]}:{port}{'/udp' * (name in _UDP)}" for name, port in numbers.items()]
        published += [f"{webrtc}:{webrtc}", f"{webrtc}:{webrtc}/udp"]
        given = {
            "MILLRACE_ADMIN__TOKEN": self.token,
            "MILLRACE_WEBRTC__PORT": str(webrtc),
            "MILLRACE_WEBRTC__ADVERTISE": "127.0.0.1",
            **(settings or {}),
        }
        podman(
            *("run", "--detach", f"--name={self.name}", f"--stop-timeout={STOP_SECONDS}", *_rights()),
            *(f"--publish=127.0.0.1:{ports}" for ports in published),
            *(f"--env={name}={value}" for name, value in given.items()),
            *(f"--volume={data}:{DATA}", *options, image(), *arguments),
        )

    @property
    def log(self) -> str:
        return podman("logs", self.name, merged=True)

    @property
    def address(self) -> str:
        """Its address for other containers."""
        return podman("inspect", "--format={{.NetworkSettings.IPAddress}}", self.name).strip()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        running, code = podman("inspect", "--format={{.State.Running}} {{.State.ExitCode}}", self.name).split()
        return None if running == "true" else int(code)

    def health(self) -> str:
        """Runs the HEALTHCHECK of the image once, because podman's timer needs systemd. Returns the new status."""
        podman("healthcheck", "run", self.name, expected=None)
        return podman("inspect", "--format={{.State.Health.Status}}", self.name).strip()

    def wait_ready(self) -> None:
        end = time.monotonic() + at_most(START_WITHIN)
        while self.health() != "healthy":
            assert self.exit_code is None, f"the container ended with {self.exit_code}: {self.log[-3000:]}"
            assert time.monotonic() < end, f"the container is not healthy: {self.log[-3000:]}"
            time.sleep(0.2)

    def run(self, *command: str, expected: int | None = 0, seconds: float = 60) -> str:
        """Runs a command in the container, and returns its output and messages."""
        return podman("exec", self.name, *command, expected=expected, seconds=seconds, merged=True)

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Stops it like Compose: SIGKILL after the grace period, which gives another exit code. Returns the code."""
        podman("stop", f"--time={timeout:.0f}", self.name, seconds=timeout + 30)
        assert not faults(self.log), faults(self.log)
        code = self.exit_code
        assert code is not None
        return code

    def rights(self) -> dict[str, str]:
        """The fields of the first process (proc(5)). Fails if the image can be written."""
        assert "Read-only file system" in self.run("touch", "/opt/millrace/written", expected=1)
        lines = self.run("cat", "/proc/1/status").splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def remove(self) -> None:
        """Kills and forgets it."""
        podman("rm", "--force", "--time=0", self.name, expected=None)


def plays(channel: Channel, film: Film, seconds: float = 4) -> None:
    """Plays the film of a push by HLS, and judges all frames."""
    channel.wait_playable("live.m3u8", timeout=40)
    with pull(channel.url("live.m3u8"), seconds=seconds) as player:
        judge(take_of(player), film)


def _rights() -> list[str]:
    """The options of `deploy/compose.yaml` that take rights from the container."""
    assert COMPOSED["read_only"]
    # Otherwise podman mounts more writable folders than Docker.
    options = ["--read-only", "--read-only-tmpfs=false", *(f"--tmpfs={folder}" for folder in COMPOSED["tmpfs"])]
    options += [f"--cap-drop={name}" for name in COMPOSED["cap_drop"]]
    return options + [f"--security-opt={text.removesuffix(':true')}" for text in COMPOSED["security_opt"]]


@contextlib.contextmanager
def container(data: str, *options: str, arguments: tuple[str, ...] = (), **settings: str) -> Iterator[Container]:
    """Runs a gateway in a container during a `with` block; it must end with 0 in time. Arguments: see `Container`."""
    gateway = Container(data, *options, arguments=arguments, settings=settings)
    try:
        gateway.wait_ready()
        yield gateway
        assert gateway.stop() == 0, gateway.log[-3000:]
    finally:
        gateway.remove()
