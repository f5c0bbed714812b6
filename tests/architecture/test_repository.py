"""The repository as a whole: it is self-contained, names no machine, and has the usual pages."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from functools import cache
from urllib.parse import urlsplit

import pytest

from gateway.lib.extras import INSTALL_AWS, INSTALL_MOQ
from tests.architecture.sources import ROOT, files, name, packaged, texts
from tests.support import nightly
from tests.support.file_times import recorded

# Written in two parts, so that this file is not its own find.
BESIDE = "../" + "shared"
FOLDERS = re.compile(r"(?<![\w.~$}-])/(?:" + "|".join(("root", "home/[a-z]+", "Users/[A-Za-z]+", "wor" + "k")) + r")/")
PRIVATE_HOST = re.compile(r"\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:internal|corp|intra)\b")
# What the whole world calls so: the container host, the DNS of Google's and Amazon's networks, Cloud Map's example.
PUBLIC = re.compile(r"(?:^|\.)(?:host\.docker|metadata\.google|compute|ec2)\.internal$")
PAGES = (
    "README.md", "CHANGELOG.md", "LICENSE", "docs/architecture.md", "docs/operations.md", "docs/api.md",
)  # fmt: skip
_INSTALL = (
    r"(?:pip3? install|pipx (?:install|upgrade|run)|uv tool (?:install|upgrade|run)|uv (?:add|pip install)|uvx)\b"
)
_NAME, _LONG_NAME = (rf"(?<![\w./-])millrace{rest}(?![\w-])" for rest in ("(?:[-_]live)?", "[-_]live"))
# The second part finds a name in the next line: a paragraph may break a command.
FROM_AN_INDEX = re.compile(
    rf"{_INSTALL}(?:[^\n`#;&|]*?{_NAME}|[^`#;&|]{{0,200}}?{_LONG_NAME})|dependencies = .*[\"']{_NAME}"
)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


@cache
def of_this_machine() -> tuple[str, ...]:
    """Names of this machine: the checkout's folder, the host, and the package index of pip unless it is public."""
    found = [str(ROOT), socket.gethostname()]
    configured = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    for text in (configured, os.environ.get("PIP_INDEX_URL", ""), os.environ.get("UV_INDEX_URL", "")):
        found += [urlsplit(url).hostname or "" for url in re.findall(r"https?://[^\s'\"]+", text)]
    public = {"pypi.org", "localhost", "127.0.0.1", "/app", "/src"}
    return tuple({one for one in found if len(one) > 3 and one not in public and not one.endswith(".pypi.org")})


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {match[0]}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in pattern.finditer(line)
    ]


def test_no_file_contains_a_path_of_a_developers_machine() -> None:
    assert lines_with(FOLDERS) == []


def test_no_file_names_this_machine() -> None:
    everything = {**texts(), **{name(path): path.read_text("utf-8") for path in files() if path.suffix == ".lock"}}
    found = [(path, word) for path, text in everything.items() for word in of_this_machine() if word in text]
    assert found == []


def test_no_file_names_a_private_host() -> None:
    found = [hit for hit in lines_with(PRIVATE_HOST) if not PUBLIC.search(hit.rpartition(" ")[2])]
    assert found == []


def test_nothing_outside_the_repository_is_needed() -> None:
    assert [path for path, text in texts().items() if BESIDE in text] == []
    assert [name(path) for path in files() if path.is_symlink() and ROOT not in path.resolve().parents] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_usual_documentation_pages_exist(page: str) -> None:
    assert (ROOT / page).is_file(), f"{page} is missing"
    assert len((ROOT / page).read_text("utf-8").split()) > 50, f"{page} says nothing"


@pytest.mark.parametrize("page", sorted(path for path in texts() if path.endswith(".md")))
def test_links_in_documents_lead_to_existing_files(page: str) -> None:
    missing = [
        link
        for link in LINK.findall(texts()[page])
        if not urlsplit(link).scheme and not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert missing == []


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) < 150
    first = re.search(r"```sh\n(.*?)```", text, re.S)
    assert first and [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make run", "make test"]


def test_all_pages_by_task_are_listed_on_the_first_page_and_the_site() -> None:
    index, site = ((ROOT / path).read_text("utf-8") for path in ("docs/start/index.md", "mkdocs.yml"))
    pages = [path.name for path in (ROOT / "docs" / "start").glob("*.md") if path.name != "index.md"]
    assert [page for page in pages if f"({page})" not in index or f"docs/start/{page}" not in site] == []


def test_packages_can_be_imported_from_a_wheel() -> None:
    """Without `__init__.py` a folder is a namespace package, which packaging tools may skip."""
    folders = {path.parent for path in packaged("*.py")}
    assert sorted(name(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_locked_requirements_are_pinned_and_hashed() -> None:
    locks = [path for path in files() if path.suffix == ".lock"]
    assert len(locks) >= 5
    for lock in locks:
        text = lock.read_text("utf-8")
        assert not re.search(r"^\s*(--(extra-)?index-url|-i|--find-links|-e)\b", text, re.M), lock
        for entry in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"\\\n\s*", " ", text).strip()):
            if not entry.startswith("#"):
                assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,-]+\])?==\S+ ", entry), entry
                assert "--hash=sha256:" in entry, entry


def test_every_dependency_of_the_project_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = set(re.findall(r"^([a-z0-9._-]+)", (ROOT / "requirements.lock").read_text("utf-8"), re.M))
    extras = dict(project["optional-dependencies"])
    del extras["speech"]  # operators choose one of its engines, and its model; images and packages have none
    wanted = [*project["dependencies"], *(d for extra in extras.values() for d in extra)]
    assert [d for d in wanted if re.split(r"[^A-Za-z0-9._-]", d)[0].lower() not in locked] == []


def test_the_files_with_recorded_times_exist_and_run_each_time() -> None:
    assert [file for file in recorded() if not (ROOT / file).is_file() or file in nightly.reasons()] == []


def test_no_text_installs_a_package_of_another_project() -> None:
    """No index has Millrace. On PyPI, `millrace` is another project, and anybody may take the name `millrace-live`.

    So each text installs a file that the reader has built.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "millrace-live" and list(project["scripts"]) == ["millrace"]
    assert INSTALL_AWS.endswith(f" -m pip install '{project['optional-dependencies']['aws'][0]}'")
    assert INSTALL_MOQ.endswith(f" -m pip install {' '.join(project['optional-dependencies']['moq'])}")
    found = [(path, match[0]) for path, text in texts().items() for match in FROM_AN_INDEX.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("pipx install @-live", True),
        ("`uv tool install\n--with aioboto3 @-live`", True),
        ("pip install '@[aws]'", True),
        ("uvx @-live serve", True),
        ('dependencies = ["@-live>=0.1"]', True),
        ("pip install ./@_live-0.1.0-py3-none-any.whl[aws]", False),
        ("uv tool install build/dist/@_live-0.1.0-py3-none-any.whl\nsudo @ install-service", False),
        ("pipx install ./@_live-….whl && sudo @ install-service", False),
        ("apt install ./@_0.1.0+deb12_amd64.deb", False),
    ],
)
def test_commands_that_install_from_an_index_are_found(text: str, refused: bool) -> None:
    text = text.replace("@", "millrace")  # so that this file is not its own find
    assert (FROM_AN_INDEX.search(text) is not None) is refused
