"""A machine joins a fleet by one line, and leaves it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.at_night import at_night
from tests.support.clients import pull, push, take_of, until
from tests.support.command_line import run
from tests.support.gateway import START_WITHIN, Gateway, running
from tests.support.media import Film
from tests.support.postgres import Postgres
from tests.support.time_outs import at_most

FILM = Film("fleet-8", seconds=8)
SECRET = 'the cluster\'s secret, "quoted" \\ é'


def millrace(data: Path, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return run(*arguments, env=kept | {"MILLRACE_DATA": str(data), **environ}, stdin=stdin)


def line_of(gateway: Gateway, settings: dict[str, str], *options: str) -> list[str]:
    """Returns the arguments of the printed line."""
    done = millrace(gateway.data, "invite", *options, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("millrace join ")
    return shlex.split(done.stdout)[1:]


@pytest.fixture
def settings(postgres: Postgres) -> dict[str, str]:
    return {
        "MILLRACE_DATABASE": postgres.new_database(),
        "MILLRACE_CLUSTER__SECRET": SECRET,
        "MILLRACE_RTMP__APPS": "live,stream",
        "MILLRACE_STREAM__LINGER": "7.5",
        "MILLRACE_OBJECTS": "s3://films",
        "MILLRACE_S3__PATH_STYLE": "true",
    }


def test_one_line_makes_a_member_once(settings: dict[str, str], tmp_path: Path) -> None:
    without_bucket = {name: value for name, value in settings.items() if "OBJECTS" not in name and "S3" not in name}
    with running(**without_bucket) as first:
        channel = first.channel(isFlv=True)
        line = line_of(first, without_bucket)
        data = tmp_path / "second"
        assert millrace(data, *line, "--no-start").returncode == 0
        file = data / "fleet.toml"
        assert file.stat().st_mode & 0o777 == 0o600
        stored = tomllib.loads(file.read_text())
        assert stored["cluster"]["secret"] == SECRET
        assert stored["signing"]["secret"] == (first.data / "signing.secret").read_text().strip()
        assert stored["rtmp"]["apps"] == "live,stream"
        assert float(stored["stream"]["linger"]) == 7.5
        again = millrace(tmp_path / "thief", *line, "--no-start")
        assert (again.returncode, "used already" in again.stderr) == (1, True)
        assert not (tmp_path / "thief" / "fleet.toml").exists()

        folder = tmp_path / "node"
        (folder / "data").mkdir(parents=True)
        shutil.copy(file, folder / "data")
        second = Gateway(folder)
        try:
            second.wait_ready()
            with push(FILM, f"rtmp://127.0.0.1:{second.ports['rtmp']}/live/{channel.obs_key}"):
                channel.wait_live()
                with pull(channel.url("live.flv"), seconds=1) as viewer:
                    assert take_of(viewer).video, "the first node plays it"
        finally:
            assert second.stop() == 0


def test_the_line_comes_from_standard_input_and_a_damaged_invitation_is_one_line(
    settings: dict[str, str], postgres: Postgres, tmp_path: Path
) -> None:
    line = millrace(tmp_path / "first", "invite", **settings)
    assert line.returncode == 0, line.stderr
    joined = millrace(tmp_path / "second", "join", "-", "--no-start", stdin=line.stdout)
    assert joined.returncode == 0, joined.stderr
    assert tomllib.loads((tmp_path / "second" / "fleet.toml").read_text())["cluster"]["secret"] == SECRET
    assert millrace(tmp_path / "second", "join", "-", "--no-start").returncode == 2
    address, _, _ = settings["MILLRACE_DATABASE"].partition("#")
    for odd in ("{}", '{"box": 5}', '{"box": "!"}', '{"box": "QQ=="}', "[]", "nonsense"):
        again = millrace(tmp_path / "first", "invite", **settings)
        postgres.sql(f"UPDATE people SET value = '{odd}' WHERE kind = 'invitation'", address.rpartition("/")[2])
        refused = millrace(tmp_path / "third", "join", "-", "--no-start", stdin=again.stdout)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert not (tmp_path / "third" / "fleet.toml").exists()


def test_the_line_holds_no_secret_in_the_database(settings: dict[str, str], postgres: Postgres, tmp_path: Path) -> None:
    with running(**{**settings, "MILLRACE_OBJECTS": f"file://{tmp_path}/media"}) as first:
        (tmp_path / "keys").write_text("the secret of the stream keys")
        references = {"MILLRACE_SIGNING__SECRET": f"file:{tmp_path}/keys"}
        line = line_of(first, settings | references)
        database = settings["MILLRACE_DATABASE"].rpartition("/")[2]
        dump = postgres.sql("SELECT * FROM people", database)
        assert "invitation" in dump
        key = line[1].rpartition("#")[2]
        for secret in (key, "quoted", (first.data / "signing.secret").read_text().strip()):
            assert secret not in dump
        wrong = millrace(tmp_path / "a", "join", f"{settings['MILLRACE_DATABASE']}#{'x' * len(key)}", "--no-start")
        assert (wrong.returncode, "used already" in wrong.stderr) == (1, True)
        assert millrace(tmp_path / "a", "join", settings["MILLRACE_DATABASE"]).returncode == 2
        stored = millrace(tmp_path / "b", *line, "--no-start")
        assert stored.returncode == 0, stored.stderr
        values = tomllib.loads((tmp_path / "b" / "fleet.toml").read_text())
        assert values["objects"] == "s3://films"
        assert values["signing"]["secret"] == "the secret of the stream keys"


@pytest.mark.parametrize("role", [*at_night([]), ["--edge"]])
def test_a_member_that_was_started_by_the_line_leaves(
    settings: dict[str, str], tmp_path: Path, role: list[str]
) -> None:
    del settings["MILLRACE_OBJECTS"], settings["MILLRACE_S3__PATH_STYLE"]
    with running(**settings) as first:
        data = tmp_path / "member"
        ports = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMP", "HTTP", "WS", "ADMIN", "WEBRTC")}
        env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        env |= {**ports, "MILLRACE_DATA": str(data), "MILLRACE_HTTP__HOST": "127.0.0.1"}
        command = [sys.executable, "-m", "gateway", *line_of(first, settings), *role]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as member:
            try:
                ready = lambda: (data / "ports.json").exists() or member.poll() is not None  # noqa: E731
                until(ready, "it is ready", START_WITHIN)
                assert member.poll() is None, (tmp_path / "log").read_text()
                until(lambda: len(json.loads(first.api("GET", "/nodes").text)) == 2, "the fleet has two nodes")
                left = millrace(data, "leave")
                assert left.returncode == 0, left.stderr
                assert member.wait(at_most(30)) == 0
            finally:
                if member.poll() is None:
                    member.send_signal(signal.SIGKILL)
        assert not (data / "fleet.toml").exists()
        until(lambda: len(json.loads(first.api("GET", "/nodes").text)) == 1, "the fleet has one node")
        assert millrace(data, "leave").returncode == 1


def test_a_gateway_without_a_fleet_cannot_invite(tmp_path: Path, settings: dict[str, str]) -> None:
    assert millrace(tmp_path, "invite").returncode == 2
    del settings["MILLRACE_CLUSTER__SECRET"]
    refused = millrace(tmp_path, "invite", **settings)
    assert (refused.returncode, "cluster.secret is not set" in refused.stderr) == (1, True)
