"""The compose files by Compose's own library, and the fleet of compose.fleet.yaml as processes on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import fork_server, versity
from tests.support.clients import Program, pull, push, take_of, until
from tests.support.compose import loaded
from tests.support.fleet import end, nodes
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel, Gateway, http
from tests.support.haproxy import SOURCE, Front, haproxy
from tests.support.media import Film
from tests.support.names import name_server
from tests.support.postgres import PASSWORD, Postgres, postgres_server, programs
from tests.support.time_outs import at_most
from tests.support.tools import need

# Go builds Compose's library for some seconds, and the store for one to three minutes.
pytestmark = pytest.mark.nightly

DEPLOY = Path(__file__).parents[3] / "deploy"
FILM = Film("composed", seconds=10)
HOSTS = {"one": "127.0.0.11", "two": "127.0.0.12", "edge": "127.0.0.21"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copies the compose files and the script, without secrets."""
    copy = tmp_path / "deploy"
    (copy / "secrets").mkdir(parents=True)
    for name in ("compose.yaml", "compose.tls.yaml", "compose.fleet.yaml", "fleet-secrets"):
        shutil.copy(DEPLOY / name, copy)
    (copy / ".env").write_text("HOME=/root\nMILLRACE_DOMAIN=live.example.com\n")
    return copy


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "compose.tls.yaml"], ["compose.fleet.yaml"]])
def test_compose_accepts_the_files(folder: Path, files: list[str]) -> None:
    project = loaded(folder, *files)
    for service in project["services"].values():
        build = service.get("build")
        assert build is None or (DEPLOY / os.path.relpath(build["context"], folder) / "Dockerfile").exists()


# ---- the fleet ----


class Node(Gateway):
    """A gateway or an edge with exactly these variables."""

    def __init__(self, folder: Path, command: list[str], token: str, environ: dict[str, str]) -> None:
        self.folder, self.token = folder, token
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.ports: dict[str, int] = {}
        self.environ = environ | {"MILLRACE_DATA": str(self.data)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AWS_"))}
        with (folder / "gateway.log").open("wb") as log:
            self.process = fork_server.start(("gateway", *command), kept | self.environ, log)


@dataclass(frozen=True)
class Fleet:
    """The services as processes. places: what stands on loopback for each word of the file, longest words first."""

    project: dict[str, Any]
    places: dict[str, str]
    nodes: dict[str, Node]
    front: Front
    bucket: Path

    def healthy(self, service: str) -> bool:
        """Runs the health check of a service."""
        how, *command = self.project["services"][service]["healthcheck"]["test"]
        assert how == "CMD"
        command = [here(word, self.places) for word in command]
        environ = os.environ | {"PATH": f"{programs()}:{os.environ['PATH']}"}
        port = {"PGPORT": self.places["database:5432"].rpartition(":")[2]}
        return subprocess.run(command, env=environ | port, timeout=at_most(30)).returncode == 0


def here(text: str, places: dict[str, str]) -> str:
    for word, place in places.items():
        text = text.replace(word, place)
    return text


def environment(service: dict[str, Any], places: dict[str, str]) -> dict[str, str]:
    """Returns the variables of a service, without those that only the operator's shell sets."""
    given = service["environment"].items()
    return {name: here(value, places) for name, value in given if value is not None}


@contextlib.contextmanager
def database(service: dict[str, Any], secrets: Path) -> Iterator[Postgres]:
    """Runs PostgreSQL with the user, the password and the database that the image makes of these variables."""
    given = environment(service, {"/run/secrets": str(secrets)})
    password = Path(given["POSTGRES_PASSWORD_FILE"]).read_text().strip()
    assert given["POSTGRES_USER"] == "millrace" and password != PASSWORD
    with postgres_server() as server:
        server.sql(f"CREATE DATABASE {given['POSTGRES_DB']}")
        server.sql(f"ALTER USER millrace PASSWORD '{password}'")
        yield server


@contextlib.contextmanager
def objects(service: dict[str, Any], places: dict[str, str]) -> Iterator[None]:
    """Runs the store with the command of the image."""
    environ = environment(service, places)
    environ["PATH"] = f"{versity.program().parent}:{os.environ['PATH']}"
    command = [here(word, places) for word in service["entrypoint"]]
    with Program(command, env=environ) as store:
        url = f"http://{places['objects:7070']}/health"
        until(lambda: not store.running or answers(url), "the store answers")
        assert store.running, store.errors
        yield


def answers(url: str) -> bool:
    try:
        return http("GET", url, timeout=2).status == 200
    except OSError:
        return False


def environ_of(name: str, fleet: dict[str, Any], places: dict[str, str], ports: dict[str, int]) -> dict[str, str]:
    """Returns the variables of a node, with a host and ports of loopback."""
    own = {f"MILLRACE_{listener.upper()}__HOST": HOSTS[name] for listener in ("rtmp", "http", "ws", "webrtc")}
    own |= {f"MILLRACE_{listener.upper()}__PORT": str(port) for listener, port in ports.items()}
    own |= {"MILLRACE_ADMIN__HOST": "127.0.0.1", "MILLRACE_ADMIN__PORT": "0", "MILLRACE_WEBRTC__PORT": "0"}
    return environment(fleet["services"][name], places) | own


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Fleet]:
    """Runs what compose.fleet.yaml describes: its variables and commands, with addresses and folders replaced."""
    subprocess.run([folder / "fleet-secrets"], check=True)
    project = loaded(folder, "compose.fleet.yaml")
    services, secrets = project["services"], folder / "secrets"
    ports = dict(zip(("rtmp", "http", "ws"), free_ports(3, *HOSTS.values()), strict=True))
    store = f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(database(services["database"], secrets))
        address = f"127.0.0.1:{server.port}"
        url = secrets / "database_url"
        url.write_text(url.read_text().replace("@database/", f"@{address}/"))
        fixed = services["haproxy"]["networks"]["default"]["ipv4_address"]
        places = {
            "/run/secrets": str(secrets),
            "/srv": str(folder / "objects"),
            fixed: SOURCE,
            "database:5432": address,
        }
        places |= {"objects:7070": store, "127.0.0.1:7070": store}
        places |= {f"{name}:8080": f"{host}:{ports['http']}" for name, host in HOSTS.items()}
        store_places = places | {":7070": store}
        (folder / "objects").mkdir()
        stack.enter_context(objects(services["objects"], store_places))
        token = (secrets / "admin_token").read_text().strip()
        made: dict[str, Node] = {}
        for name in HOSTS:
            command = services[name].get("command") or ["serve"]
            made[name] = Node(folder / name, command, token, environ_of(name, project, places, ports))
            stack.callback(end, made[name])
        for node in made.values():
            node.wait_ready()
        names = stack.enter_context(name_server())
        for name, host in HOSTS.items():
            for alias in services[name]["networks"]["default"]["aliases"]:
                names.records[alias] = (*names.records.get(alias, ()), host)
        variables = environment(services["haproxy"], places) | {"FRONT_DNS": names.address}
        variables |= {f"FRONT_TO_{name.upper()}": str(port) for name, port in ports.items()}
        front = stack.enter_context(haproxy(names.address, **variables))
        front.wait_up("rtmp-ready", HOSTS["one"], HOSTS["two"])
        front.wait_up("playback-ready", HOSTS["edge"])
        places["/8080"] = f"/{front.ports['http']}"
        yield Fleet(project, places, made, front, folder / "objects" / "recordings")


def test_the_fleet_takes_a_push_plays_it_at_the_edge_and_keeps_the_recording(folder: Path) -> None:
    need("ffmpeg", "haproxy", "openssl", "wget")
    with tempfile.TemporaryDirectory(prefix="millrace-compose-") as name, running(moved(folder, Path(name))) as fleet:
        one, front = fleet.nodes["one"], fleet.front
        assert [service for service in ("database", "objects", "haproxy") if not fleet.healthy(service)] == []
        until(lambda: len(nodes(one)) == 3, "all nodes know of each other")
        check_doctor(one)
        channel = one.channel(isVideo=True, video_time="60", isOnDemand=True, ondemand_time="2")
        outside = f"http://127.0.0.1:{front.ports['http']}/{channel.id}"
        with push(FILM, f"rtmp://127.0.0.1:{front.ports['rtmp']}/stream/{channel.obs_key}") as pushing:
            channel.wait_live()
            assert channel.session()["publisher"]["address"] == "127.0.0.1", f"and not HAProxy's {SOURCE}"
            with pull(f"{outside}/live.flv", seconds=3) as viewer:
                until(lambda: viewers(fleet, channel) == [1], "the edge has the viewer")
                assert len(take_of(viewer).video) >= 25
            pushing.wait(40)
        (video,) = until(lambda: recordings(channel, "video"), "the MP4 file is in the bucket", 30)
        assert (fleet.bucket / video["key"]).stat().st_size == video["size"]
        path = re.sub(r"^https?://[^/]+", "", video["url"])
        with pull(f"http://127.0.0.1:{front.ports['http']}{path}", seconds=None) as player:
            assert take_of(player).video == FILM.hashes().video
        for node in fleet.nodes.values():
            assert "Traceback" not in node.log, node.log[-4000:]


def moved(folder: Path, to: Path) -> Path:
    """Copies the folder to a place that PostgreSQL's user may enter."""
    to.chmod(0o755)
    return Path(shutil.copytree(folder, to / "deploy"))


def check_doctor(node: Node) -> None:
    """The variables of a gateway are all that doctor needs to find the stores. The store lacks only lifecycle rules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AWS_"))}
    command = [sys.executable, "-m", "gateway", "doctor", "--json"]
    done = subprocess.run(command, env=kept | node.environ, capture_output=True, timeout=at_most(60))
    found = {one["name"]: one["state"] for one in json.loads(done.stdout)}
    assert found["channel store"] == "ok", done.stdout
    bucket = {name: state for name, state in found.items() if name.startswith("bucket")}
    assert len(bucket) == 6 and {name for name, state in bucket.items() if state != "ok"} == {"bucket, lifecycle"}


def viewers(fleet: Fleet, channel: Channel) -> list[int]:
    """Returns the numbers of viewers of each edge."""
    reply = fleet.nodes["edge"].api("GET", "/metrics").text
    return [int(float(n)) for n in re.findall(r'^millrace_viewers\{protocol="flv"\} (\S+)', reply, re.M)]


def recordings(channel: Channel, kind: str) -> list[dict[str, Any]]:
    return list(channel.gateway.api("GET", f"/videostream/{channel.id}/recordings?kind={kind}").json())
