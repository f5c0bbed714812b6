"""The commands in `docs/start`: blocks after `<!-- run -->` run against a real gateway; settings are read.

They run against a gateway with the default settings, and against the one that the page about a domain builds.

A page's blocks run as one script, with these differences: there is no sudo and no systemctl, paths of the system are in
a folder of the test, the admin token is an option instead of typed, and the text for a stream key is a real key.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gateway.cli.service import FILES
from gateway.settings.layers import merge
from tests.support import command_line
from tests.support.at_night import at_night
from tests.support.authority import Authority
from tests.support.gateway import Gateway, running
from tests.support.time_outs import at_most

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs" / "start").glob("*.md"), ROOT / "docs" / "irl.md"])
DOMAIN = ROOT / "docs" / "start" / "domain.md"
RUN = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.S)
KEY = "<id>?sign=<key>"
ANY_PORT = {"MILLRACE_ADMIN__PORT": "0"}  # of the listener that the gateway opened


class Server:
    """A running gateway with one channel, and the environment of the commands on its machine."""

    def __init__(self, gateway: Gateway, settings: dict[str, str]) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        self.env = env | settings | {"MILLRACE_DATA": str(gateway.data), "TOKEN": gateway.token}
        self.gateway = gateway
        made = command_line.run("channel", "create", "--json", env=self.env)
        assert made.returncode == 0, made.stderr
        self.key = json.loads(made.stdout)["obsKey"]


def blocks(page: Path) -> list[str]:
    return RUN.findall(page.read_text())


def settings_in(page: Path) -> list[str]:
    text = page.read_text()
    return re.findall(r"```toml\n(.*?)```", text, re.S) + re.findall(r"<<'END'\n(.*?)\nEND\n", text, re.S)


def with_domain(folder: Path) -> dict[str, str]:
    """The settings of the page about a domain. The authority has issued the certificate already."""
    (settings,) = settings_in(DOMAIN)
    config = folder / "millrace.toml"
    config.write_text(re.sub(r"^data = .*\n", "", settings))
    certificate, key = Authority(folder).files("live.example.com")
    (folder / "data" / "acme").mkdir(parents=True)
    (folder / "data" / "acme" / "certificate.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    free = {f"MILLRACE_{name}__PORT": "0" for name in ("HTTPS", "RTMPS", "WSS", "ADMIN")}
    return {"MILLRACE_CONFIG": str(config), "MILLRACE_ADMIN__HOST": "127.0.0.1", **free}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with the default settings, or with those of the page about a domain."""
    folder = tmp_path_factory.mktemp("server")
    settings = with_domain(folder) if request.param == "domain" else ANY_PORT
    gateway = Gateway(folder, **settings)
    try:
        gateway.wait_ready()
        yield Server(gateway, settings)
    finally:
        code = gateway.stop()
    assert code == 0, gateway.log


def run(page: Path, server: Server, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the blocks of a page. Stops at the first command that fails."""
    script = "\n".join(blocks(page)).replace(KEY, server.key)
    for place in ("/etc/millrace/", "/var/backups/", "/var/lib/millrace"):
        script = script.replace(place, f"{folder}{place}")
        (folder / place.strip("/")).mkdir(parents=True, exist_ok=True)
    head = 'set -euo pipefail\nsudo() { "$@"; }\nsystemctl() { :; }\n'
    head += 'millrace() { [ "$1" != api ] || set -- "$@" --token "$TOKEN"\n'
    # `doctor` ends with 1 if this machine lacks something, such as free ports.
    head += f'{sys.executable} -m gateway "$@" || [ "$1" = doctor ]; }}\n'
    command = ["bash", "-c", head + script]
    return subprocess.run(command, cwd=ROOT, env=server.env, capture_output=True, text=True, timeout=at_most(120))


COMMANDS = [page for page in PAGES if blocks(page)]
ABOUT_DOMAIN = ("domain", "protect")


@pytest.mark.parametrize(
    ("server", "page"),
    [
        *(("default", page) for page in COMMANDS),
        *(("domain", page) for page in COMMANDS if page.stem in ABOUT_DOMAIN),
        *at_night(*(("domain", page) for page in COMMANDS if page.stem not in ABOUT_DOMAIN)),
    ],
    indirect=["server"],
    ids=lambda one: one if isinstance(one, str) else one.stem,
)
def test_the_commands_of_a_page_work(page: Path, server: Server, tmp_path: Path) -> None:
    if page.stem == "on-boot":  # it restores a backup, so its gateway has stopped
        with running() as other:
            stopped = Server(other, ANY_PORT)
            assert other.stop() == 0
            done = run(page, stopped, tmp_path)
        assert list((tmp_path / "var/backups").iterdir()) and "restored: " in done.stderr
    else:
        done = run(page, server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '{"error"' not in done.stdout, done.stdout


def test_pages_have_commands_that_run() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 12


def test_each_page_sets_the_variables_that_its_commands_use() -> None:
    """Each page is complete: a reader begins with any of them."""
    missing = []
    for page in PAGES:
        commands = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.S))
        for match in re.finditer(r"\$\{?([A-Z]+)\b", commands):
            if not re.search(rf"(^|\s){match[1]}=", commands[: match.start()], re.M):
                missing.append(f"{page.name}: {match[1]}")
    assert missing == []


def test_no_page_names_the_port_of_the_api_in_a_command() -> None:
    """Its scheme and port are those of the server that another page built; `millrace api` finds both."""
    commands = {page.name: re.findall(r"```sh\n(.*?)```", page.read_text(), re.S) for page in PAGES}
    assert [name for name, found in commands.items() if "//127.0.0.1:8000" in "".join(found)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_on_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    for number, settings in enumerate(settings_in(page)):
        file = tmp_path / f"{number}.toml"
        file.write_text(settings)
        merge(config=file, environ={}).settings()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_in_commands_exist(page: Path) -> None:
    named = set(
        re.findall(
            r"(?<![\w/.])(?:deploy|docs|config)/[\w./-]+\w",
            "".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)),
        )
    )
    made = {"deploy/secrets/admin_token", "deploy/secrets/grafana_password"}
    assert [name for name in named - made if not (ROOT / name).exists()] == []


def test_the_nightly_backup_finds_the_command_of_each_installation() -> None:
    """The folders of `install-service` and of the Debian package, before those of programs without its settings."""
    (path,) = re.findall(r"^PATH=(.+)$", (ROOT / "docs/start/on-boot.md").read_text(), re.M)
    folders = path.split(":")
    places = [*re.findall(r"put root\.sh (\S+) ", (ROOT / "tools/build-deb").read_text()), FILES["root.sh"][0]]
    assert len(places) == 2
    for place in places:
        assert folders.index(f"/{Path(place).parent}") < min(folders.index("/usr/local/bin"), folders.index("/usr/bin"))


def test_the_way_to_a_domain_takes_few_commands() -> None:
    lines = "".join(re.findall(r"```sh\n(.*?)```", DOMAIN.read_text(), re.S))
    text = re.sub(r"<<'END'\n.*?\nEND\n", "\n", lines, flags=re.S)
    assert len([line for line in text.splitlines() if line.strip()]) <= 8


def test_the_addition_for_tls_fits_the_compose_file() -> None:
    base, tls = (yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in ("compose.yaml", "compose.tls.yaml"))
    assert tls["services"].keys() <= base["services"].keys()
    added = tls["services"]["millrace"]["ports"]
    assert {"80:80", "443:443", "1938:1938"} <= set(added)
    assert not set(added) & set(base["services"]["millrace"]["ports"])
