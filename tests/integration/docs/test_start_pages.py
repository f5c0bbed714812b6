"""The commands in `docs/start`: blocks after `<!-- run -->` run against a real gateway; settings are read.

A page's blocks run as one script, with these differences: there is no sudo and no systemctl, ports are those of the
gateway of the test, and paths of the system are in a folder of the test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateway.settings.layers import merge
from tests.support.gateway import Channel, Gateway, running
from tests.support.shared_gateway import shared_gateway

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs" / "start").glob("*.md"))
RUN = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.S)

gateway = shared_gateway()


def blocks(page: Path) -> list[str]:
    return RUN.findall(page.read_text())


def run(page: Path, channel: Channel, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the blocks of a page. Stops at the first command that fails."""
    gateway = channel.gateway
    script = "\n".join(blocks(page))
    for place in ("/etc/millrace/", "/var/backups/", "/var/lib/millrace"):
        script = script.replace(place, f"{folder}{place}")
        (folder / place.strip("/")).mkdir(parents=True, exist_ok=True)
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{gateway.ports['admin']}")
    head = 'set -euo pipefail\nsudo() { "$@"; }\nsystemctl() { :; }\n'
    head += f'millrace() {{ {sys.executable} -m gateway "$@"; }}\n'
    env = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    env |= {"MILLRACE_DATA": str(gateway.data), "ID": channel.id, "KEY": channel.key, "TOKEN": gateway.token}
    return subprocess.run(["bash", "-c", head + script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(page: Path, gateway: Gateway, tmp_path: Path) -> None:
    if page.stem == "on-boot":  # it restores a backup, so its gateway has stopped
        with running() as other:
            channel = other.channel("kept")
            assert other.stop() == 0
            done = run(page, channel, tmp_path)
        assert list((tmp_path / "var/backups").iterdir()) and "restored: " in done.stderr
    else:
        done = run(page, gateway.channel(page.stem), tmp_path)
    # `doctor` ends with 1 if this machine lacks something, such as free ports.
    assert done.returncode == 0 or page.stem == "troubleshooting", done.stderr
    assert '{"error"' not in done.stdout, done.stdout


def test_pages_have_commands_that_run() -> None:
    assert sum(len(blocks(page)) for page in PAGES) > 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_on_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    found = re.findall(r"```toml\n(.*?)```", text, re.S) + re.findall(r"<<'END'\n(.*?)\nEND\n", text, re.S)
    for number, settings in enumerate(found):
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


def test_the_way_to_a_domain_takes_few_commands() -> None:
    lines = "".join(re.findall(r"```sh\n(.*?)```", (ROOT / "docs/start/domain.md").read_text(), re.S))
    text = re.sub(r"<<'END'\n.*?\nEND\n", "\n", lines, flags=re.S)
    assert len([line for line in text.splitlines() if line.strip()]) <= 8


def test_the_addition_for_tls_fits_the_compose_file() -> None:
    base, tls = (yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in ("compose.yaml", "compose.tls.yaml"))
    assert tls["services"].keys() <= base["services"].keys()
    added = tls["services"]["millrace"]["ports"]
    assert {"80:80", "443:443", "1938:1938"} <= set(added)
    assert not set(added) & set(base["services"]["millrace"]["ports"])
