"""The commands that ask a running gateway: status, streams, events, kick and api."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import running as running_commands
from gateway.cli.api_client import Api, Refused, Unavailable
from gateway.cli.common import Sources
from gateway.lib.rfc3339 import rfc3339
from tests.support.authority import Authority
from tests.support.clients import Program, push, until
from tests.support.command_line import run
from tests.support.gateway import Gateway, running
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway

FILM = Film("running cli", seconds=60)
gateway = shared_gateway("ffmpeg", films=[FILM])


class FirstStart(Gateway):
    """The gateway as `make run` starts it."""

    program = ("gateway", "serve", "--welcome")


def environment(data: Path, token: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return kept | {"MILLRACE_DATA": str(data), "MILLRACE_ADMIN__PORT": "0", "MILLRACE_ADMIN__TOKEN": token}


def millrace(
    gateway: Gateway, *arguments: str, token: str | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command on the gateway's machine: its address follows from the data folder."""
    return run(*arguments, env=environment(gateway.data, gateway.token if token is None else token), stdin=stdin)


def test_the_live_streams_are_shown_and_ended(gateway: Gateway) -> None:
    assert millrace(gateway, "streams").stdout == ""
    channel = gateway.channel(videoname="Main stage")
    with push(FILM, channel.push) as encoder:
        channel.wait_live()
        shown = millrace(gateway, "streams")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith(f"{channel.id}  live  ") and shown.stdout.endswith("  Main stage\n")
        assert " rtmp 127.0.0.1 " in shown.stdout
        (listed,) = json.loads(millrace(gateway, "streams", "--json").stdout)
        assert (listed["id"], listed["state"]) == (channel.id, "live")
        status = json.loads(millrace(gateway, "status", "--json").stdout)
        assert (status["publishers"], status["ready"]) == (1, True)
        assert "publishers  1\n" in millrace(gateway, "status").stdout
        columns = millrace(gateway, "nodes").stdout.split()
        assert columns[:2] == ["-", "gateway"] and columns[-4:] == ["1", "0", "0.0", "GB"], columns
        (node,) = json.loads(millrace(gateway, "nodes", "--json").stdout)
        assert (node["role"], node["publishers"]) == ("gateway", 1)
        kicked = millrace(gateway, "kick", channel.id)
        assert (kicked.returncode, kicked.stdout) == (0, f"ended the stream of {channel.id}\n")
        until(lambda: not encoder.running, "the encoder is cut off")
    again = millrace(gateway, "kick", channel.id)
    assert (again.returncode, again.stdout) == (1, "") and again.stderr == f"millrace: {channel.id} is not live\n"


def test_events_are_printed_and_followed(gateway: Gateway) -> None:
    first = gateway.channel(videoname="First")
    done = millrace(gateway, "events", "--channel", first.id)
    assert done.stdout.count("\n") == 1 and "  channel.created    " in done.stdout
    (event,) = json.loads(millrace(gateway, "events", "--channel", first.id, "--json").stdout)
    assert (event["type"], event["data"]["name"]) == ("channel.created", "First")
    command = [sys.executable, "-m", "gateway", "events", "--follow", "--json", "--type", "channel.created"]
    with Program(command, env=environment(gateway.data, gateway.token)) as following:
        until(lambda: first.id in following.output, "the earlier events")
        second = gateway.channel(videoname="Second")
        until(lambda: second.id in following.output, "the new event")
        third = gateway.channel(videoname="Third")
        until(lambda: third.id in following.output, "the next event")
        ids = [json.loads(line)["id"] for line in following.output.splitlines()]
        assert len(ids) == len(set(ids))


class Answers:
    """An API that gives these answers in turn, or raises them, until Ctrl-C. asked: the queries."""

    def __init__(self, *answers: Sequence[dict[str, Any]] | Exception) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def ask(self, _method: str, _path: str, query: dict[str, Any]) -> Sequence[dict[str, Any]]:
        self.asked.append(query)
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def occurred(id: str, at: float) -> dict[str, Any]:
    return {"id": id, "time": rfc3339(at), "type": "channel.created", "channel": "foyer", "data": {}}


def follow(api: Answers, monkeypatch: pytest.MonkeyPatch, limit: int = 20) -> None:
    """Runs `millrace events --follow --json` until Ctrl-C."""
    monkeypatch.setattr(running_commands, "open_api", lambda *_: api)
    monkeypatch.setattr(running_commands, "_FOLLOW_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        running_commands.events(None, limit=limit, follow=True, as_json=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [-3600, 3600], ids=["the gateway's clock is late", "the gateway's clock is early"])
def test_events_are_followed_with_another_clock_than_that_of_the_gateway(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ahead: float
) -> None:
    here = time.time()
    first, second = occurred("1", here + ahead), occurred("2", here + ahead + 1)
    api = Answers([first], [first], [second, first], [second])
    follow(api, monkeypatch)
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    assert all(query["since"] < min(here, here + ahead) + 1 for query in api.asked[1:])


def test_the_first_event_of_all_is_followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Answers([], [], [occurred("1", 1.8e9)])
    follow(api, monkeypatch)
    assert capsys.readouterr().out.count("\n") == 1
    assert [query["since"] for query in api.asked[1:3]] == [0, 0]


def test_earlier_events_than_the_wanted_ones_are_not_followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    burst = [occurred(str(n), 1.8e9) for n in (3, 2, 1)]
    follow(Answers(burst, burst), monkeypatch, limit=2)
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["2", "3"]


def test_a_gateway_whose_store_is_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(
        Answers([], Unavailable("the store is away"), Unavailable("the store is away"), [occurred("1", 5)]), monkeypatch
    )
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), shown.err) == (1, "millrace: the store is away\n")


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (502, Unavailable), (429, Unavailable), (401, Refused)]
)
def test_an_answer_that_may_change_soon_is_told_from_a_refusal(status: int, kind: type[Refused]) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Writes nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Refused) as refused:
            Api(f"http://127.0.0.1:{server.server_port}", "token", None).ask("GET", "/events")
        thread.join()
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("host", "asked"), [("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")]
)
def test_a_gateway_on_all_addresses_is_asked_over_ipv4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, asked: str
) -> None:
    """Containers without IPv6 have no ::1, but a listener on `::` also takes IPv4."""
    monkeypatch.setenv("MILLRACE_DATA", str(tmp_path))
    sources = Sources(None, None, [f"admin.host={host}"])
    assert running_commands.open_api(sources, None, "a token").base == f"http://{asked}:8000"


def test_any_request_can_be_sent_to_the_api(gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Asked")
    shown = millrace(gateway, "api", "get", f"/videostream/{channel.id}")
    assert (shown.returncode, json.loads(shown.stdout)["videoname"]) == (0, "Asked")
    inputs = f"/videostream/{channel.id}/inputs"
    listed = '[{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate", "text": "Grüße"}]'
    assert millrace(gateway, "api", "PUT", inputs, listed).returncode == 0
    assert json.loads(millrace(gateway, "api", "GET", inputs).stdout)[1]["text"] == "Grüße"
    piped = millrace(gateway, "api", "PUT", inputs, "-", stdin='[{"name": "main", "kind": "push"}]')
    assert (piped.returncode, len(json.loads(millrace(gateway, "api", "GET", inputs).stdout))) == (0, 1)
    assert "\nmillrace_streams" in millrace(gateway, "api", "GET", "/metrics").stdout
    refused = millrace(gateway, "api", "PUT", f"/videostream/{channel.id}", '{"isHls": "perhaps"}')
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith("millrace: isHls: expected "), refused.stderr
    deleted = millrace(gateway, "api", "DELETE", f"/videostream/{channel.id}")
    assert deleted.returncode == 0, deleted
    for wrong in (("FETCH", "/status"), ("GET", "status"), ("GET", "/two words")):
        done = millrace(gateway, "api", *wrong)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done


def test_the_channel_of_the_first_start_never_expires(tmp_path: Path) -> None:
    first = FirstStart(tmp_path)
    try:
        until(lambda: " is ready.\n" in first.log, "the text of the first start")
        first.wait_ready()
        (channel,) = first.api("GET", "/videostream").json()
        assert (channel["videoname"], channel["outdate"]) == ("First channel", "9999-12-31")
        assert channel["pushUrl"] in first.log
    finally:
        assert first.stop() == 0


def test_mistakes_are_one_line_with_the_remedy(gateway: Gateway, tmp_path: Path) -> None:
    def said(done: subprocess.CompletedProcess[str], code: int) -> str:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done
        return done.stderr

    assert "the admin token is wrong" in said(millrace(gateway, "status", token="a-wrong-token-of-tests"), 1)
    assert "set MILLRACE_ADMIN__TOKEN" in said(millrace(gateway, "status", token=""), 2)
    assert "start one with `millrace serve`" in said(millrace(gateway, "status", "--url", "http://127.0.0.1:1"), 1)
    assert "expected http://" in said(millrace(gateway, "status", "--url", "127.0.0.1"), 2)
    playback = f"http://127.0.0.1:{gateway.ports['http']}"
    assert said(millrace(gateway, "status", "--url", playback), 1)
    found = millrace(gateway, "events", "--type", "nonsense")
    assert found.returncode in (0, 1) and "Traceback" not in found.stderr


def test_the_own_certificate_is_trusted_whatever_its_name_and_others_are_not(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).files("live.example.com")
    tls = {"MILLRACE_TLS__CERT": str(cert), "MILLRACE_TLS__KEY": str(key), "MILLRACE_ADMIN__TLS": "true"}
    ports = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMPS", "HTTPS", "WSS")}
    with running(**tls, **ports) as gateway:
        env = environment(gateway.data, gateway.token) | tls
        done = run("status", "--json", env=env)
        assert (done.returncode, json.loads(done.stdout)["ready"]) == (0, True)
        refused = run("status", "--json", "--url", f"https://127.0.0.1:{gateway.ports['admin']}", env=env)
        assert refused.returncode == 1 and "certificate" in refused.stderr
