"""The command `millrace user` beside a running gateway: new users sign in, a new password signs a user out."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from tests.support.command_line import run
from tests.support.gateway import Gateway, Reply, http
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

PASSWORD, ANOTHER = "correct horse battery", "another password"


def millrace(data: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return run(*arguments, env=kept | {"MILLRACE_DATA": str(data)}, stdin=stdin or "")


def done(data: Path, *arguments: str, stdin: str | None = None) -> str:
    found = millrace(data, *arguments, stdin=stdin)
    assert found.returncode == 0, found.stderr
    return found.stdout


gateway = shared_gateway()


def sign_in(gateway: Gateway, password: str, name: str = "") -> Reply:
    body = {"name": name, "password": password}
    return http("POST", f"http://127.0.0.1:{gateway.ports['admin']}/login", body=body)


def status(gateway: Gateway, cookie: str) -> int:
    return http("GET", f"http://127.0.0.1:{gateway.ports['admin']}/profile", headers={"Cookie": cookie}).status


def test_a_new_user_can_sign_in_until_the_password_changes(gateway: Gateway) -> None:
    made = millrace(gateway.data, "user", "add", "eva", "--password-stdin", stdin=PASSWORD + "\n")
    assert (made.returncode, made.stdout) == (0, "created eva\n")
    assert made.stderr == "A broadcaster without --channel sees no channel.\n"
    (listed,) = json.loads(done(gateway.data, "user", "list", "--json"))
    assert (listed["name"], listed["role"], listed["channels"]) == ("eva", "broadcaster", [])
    reply = sign_in(gateway, PASSWORD, "eva")
    assert reply.status == 200
    cookie = reply.headers["set-cookie"].partition(";")[0]
    assert status(gateway, cookie) == 200
    assert done(gateway.data, "user", "password", "eva", "--password-stdin", stdin=ANOTHER) == "changed eva\n"
    end = time.monotonic() + at_most(20)
    while status(gateway, cookie) == 200:  # seen within seconds: the gateway does not ask for every request
        assert time.monotonic() < end, "the session goes on"
        time.sleep(0.05)
    assert sign_in(gateway, PASSWORD, "eva").status == 401
    assert sign_in(gateway, ANOTHER, "eva").status == 200
    assert json.loads(done(gateway.data, "user", "delete", "eva", "--json")) == {"name": "eva", "deleted": True}
    assert sign_in(gateway, ANOTHER, "eva").status == 401


def test_a_broadcaster_may_use_only_the_own_channels_until_the_role_changes(gateway: Gateway) -> None:
    own, other = gateway.channel(), gateway.channel()
    add = ("user", "add", "bea", "--role", "broadcaster", "--channel", own.id, "--password-stdin", "--json")
    user = json.loads(done(gateway.data, *add, stdin=PASSWORD + "\n"))
    assert (user["role"], user["channels"]) == ("broadcaster", [own.id])
    cookie = sign_in(gateway, PASSWORD, "bea").headers["set-cookie"].partition(";")[0]

    def answers(path: str, method: str = "GET") -> int:
        url = f"http://127.0.0.1:{gateway.ports['admin']}{path}"
        return http(method, url, headers={"Cookie": cookie}).status

    assert answers(f"/videostream/{own.id}") == answers(f"/videostream/{own.id}/session") == answers("/servers") == 200
    assert answers(f"/videostream/{other.id}") == answers("/users") == answers("/metrics") == 403
    assert done(gateway.data, "user", "set", "bea", "--role", "broadcaster", "--channel", other.id) == "changed bea\n"
    end = time.monotonic() + at_most(20)
    while answers(f"/videostream/{own.id}") != 401:  # seen within seconds, like a new password
        assert time.monotonic() < end, "the session goes on"
        time.sleep(0.05)
    cookie = sign_in(gateway, PASSWORD, "bea").headers["set-cookie"].partition(";")[0]
    assert answers(f"/videostream/{own.id}") == 403
    assert answers(f"/videostream/{other.id}") == 200


def test_a_stream_key_shows_the_servers_on_both_listeners(gateway: Gateway) -> None:
    channel = gateway.channel()
    for port in (gateway.ports["http"], gateway.ports["admin"]):
        base = f"http://127.0.0.1:{port}/_servers/{channel.id}"
        (server,) = http("GET", f"{base}?sign={channel.key}").json()
        assert (server["role"], server["address"]) == ("primary", "127.0.0.1")
        assert server["ports"]["ws"] == gateway.ports["ws"]
        assert http("GET", f"{base}?sign={channel.key[:-1]}x").status == 403
        assert http("GET", base).status == 403


def test_the_admin_token_signs_in_and_no_secret_is_logged(gateway: Gateway) -> None:
    reply = sign_in(gateway, gateway.token)
    assert reply.status == 200 and reply.json()["user"] == {"name": "admin", "kind": "token", "role": "administrator"}
    cookie = reply.headers["set-cookie"].partition(";")[0]
    assert status(gateway, cookie) == 200
    for secret in (gateway.token, cookie.partition("=")[2], reply.json()["csrf"]):
        assert secret not in gateway.log
    assert "signed in" in gateway.log


def test_a_mistake_gives_a_one_line_error(tmp_path: Path) -> None:
    said: list[Any] = []
    for arguments, stdin, code in (
        (("add", "eva", "--password-stdin"), "short\n", 2),
        (("add", "a/b", "--password-stdin"), PASSWORD, 2),
        (("add", "eva"), "", 2),
        (("password", "nobody", "--password-stdin"), PASSWORD, 1),
        (("delete", "nobody"), "", 1),
        (("set", "nobody", "--role", "administrator"), "", 1),
        (("add", "eva", "--role", "owner", "--password-stdin"), PASSWORD, 2),
        (("add", "eva", "--role", "broadcaster", "--channel", "nowhere", "--password-stdin"), PASSWORD, 2),
        (("add", "eva", "--role", "administrator", "--password-stdin"), PASSWORD, 0),
        (("add", "eva", "--password-stdin"), PASSWORD, 1),
    ):
        found = millrace(tmp_path, "user", *arguments, stdin=stdin)
        said.append(found.stderr)
        assert (found.returncode, found.stderr.count("\n")) == (code, 1 if code else 0), (arguments, found.stderr)
        assert "Traceback" not in found.stderr and PASSWORD not in found.stdout + found.stderr
    assert said[-1] == "millrace: user eva exists already\n"


def test_a_terminal_asks_for_the_password_twice_and_hides_it(tmp_path: Path) -> None:
    shown, code = at_terminal(tmp_path, "user", "add", "eva", typed=[PASSWORD, "something else", PASSWORD, PASSWORD])
    assert code == 0, shown
    assert shown.count("Password:") == 2 and shown.count("Once more:") == 2, shown
    assert PASSWORD not in shown and "something else" not in shown
    assert shown.endswith("created eva\r\nA broadcaster without --channel sees no channel.\r\n")


def at_terminal(data: Path, *arguments: str, typed: list[str]) -> tuple[str, int]:
    """Returns the terminal output and the exit code. Each prompt of the program gets one line."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        env=kept | {"MILLRACE_DATA": str(data)}, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(theirs)
    shown, answered, left = b"", 0, list(typed)
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not piece:
            break
        shown += piece
        asked = shown.count(b"Password: ") + shown.count(b"Once more: ")
        while answered < asked and left:
            answered += 1
            os.write(ours, left.pop(0).encode() + b"\n")
    os.close(ours)
    return shown.decode(), process.wait(at_most(30))
