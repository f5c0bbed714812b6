"""The example client of the documentation works with the real gateway."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.clients import push
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.tools import need

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "millrace_client.py"
FILM = Film("example", seconds=60, size="320x180")

sys.path.insert(0, str(EXAMPLE.parent))
from millrace_client import Millrace, MillraceError  # type: ignore[import-not-found]  # noqa: E402

gateway = shared_gateway()


def client(gateway: Gateway, token: str | None = None) -> Millrace:
    return Millrace(f"http://127.0.0.1:{gateway.ports['admin']}", gateway.token if token is None else token)


def test_the_example_program_creates_records_and_deletes_a_channel(gateway: Gateway) -> None:
    need("ffmpeg")
    FILM.path()
    command = [sys.executable, str(EXAMPLE), "--url", f"http://127.0.0.1:{gateway.ports['admin']}", "--seconds", "3"]
    env = {**os.environ, "MILLRACE_TOKEN": gateway.token, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        assert said.startswith("push to "), said
        with push(FILM, said.split()[-1]):
            rest = program.stdout.read()
        assert program.wait(30) == 0, rest
    assert {"flv", "hls", "cmaf", "dash"} <= {line.split()[0] for line in rest.splitlines()}
    recorded = re.search(r"^recorded +([\d.]+) s, (\d+) bytes: (\S+)$", rest, re.MULTILINE)
    assert recorded is not None, rest
    assert 1 < float(recorded[1]) < 8
    assert len(http("GET", recorded[3]).body) == int(recorded[2])
    assert rest.endswith("the channel is deleted\n")
    assert client(gateway).channels() == []


def test_refusals_carry_their_reason(gateway: Gateway) -> None:
    millrace = client(gateway)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(MillraceError, match="token") as refused:
        client(gateway, "wrong").channels()
    assert refused.value.status == 401
    with pytest.raises(MillraceError) as refused:
        millrace.create("x", tomorrow, isHls="perhaps")
    assert (refused.value.status, refused.value.field) == (400, "isHls")
    channel = millrace.create("idle", tomorrow)
    with pytest.raises(MillraceError) as refused:
        millrace.switch(channel["id"], "video", True)
    assert refused.value.status == 409
    with pytest.raises(TimeoutError):
        millrace.wait_until_live(channel["id"], 0.1)
    millrace.delete(channel["id"])
    with pytest.raises(MillraceError) as refused:
        millrace.session(channel["id"])
    assert refused.value.status == 404


def test_recordings_are_kept_or_deleted_with_their_channel(gateway: Gateway) -> None:
    millrace = client(gateway)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ids = [millrace.create("recorded", tomorrow)["id"] for _ in range(2)]
    for id in ids:
        file = gateway.data / "media" / id / "images/2026/1/2/capture-2026-01-02_03-04-05.jpg"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    millrace.delete(ids[0])
    millrace.delete(ids[1], media="delete")
    assert [len(millrace.media(id)) for id in ids] == [1, 0]
    millrace.delete_media(ids[0])
    assert millrace.media(ids[0]) == []
    with pytest.raises(MillraceError) as refused:
        millrace.delete(ids[0], media="both")
    assert (refused.value.status, refused.value.field) == (400, "media")


def test_an_unreachable_gateway_gives_a_one_line_error() -> None:
    command = [sys.executable, str(EXAMPLE), "--url", "http://127.0.0.1:9"]
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MILLRACE_TOKEN": "x"})
    assert told.returncode == 1
    assert told.stderr.startswith("http://127.0.0.1:9 does not answer")
    assert told.stderr.count("\n") == 1
    without = {name: value for name, value in os.environ.items() if name != "MILLRACE_TOKEN"}
    assert subprocess.run(command, capture_output=True, text=True, env=without).returncode == 2


def test_the_types_of_the_example_client_are_complete() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, str(EXAMPLE)]
    judged = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert judged.returncode == 0, judged.stdout
