"""Names in the documents exist: environment variables, linked sections and public names."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from gateway.settings.layers import OPTIONS, is_secret, variable

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "proxy").rglob("*.md")])
# Of the example client, the compose file and the Caddyfile; and what selects files, which is no option.
OTHERS = {"MILLRACE_TOKEN", "MILLRACE_PROFILE", "MILLRACE_CONFIG", "MILLRACE_DOMAIN", "MILLRACE_HOST"}
OTHERS |= {"MILLRACE_SITE", "MILLRACE_CONSOLE"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_environment_variables_in_documents_exist(page: Path) -> None:
    known = {variable(name) for name in OPTIONS} | {f"{variable(name)}_FILE" for name in OPTIONS if is_secret(name)}
    named = {name for name in re.findall(r"MILLRACE_[A-Z0-9_]+", page.read_text()) if not name.endswith("__")}
    assert named - known - OTHERS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_sections_lead_to_a_heading(page: Path) -> None:
    broken = []
    for target, section in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text()):
        other = (page.parent / target) if target else page
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
        if section not in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}:
            broken.append(f"{target}#{section}")
    assert broken == []


def test_the_first_change_that_is_proposed_has_a_test_that_fails() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (text,) = re.findall(r'^grep -rn "(.+?)" gateway tests', guide, re.M)
    (judge,) = re.findall(r"^\.venv/bin/python -m pytest -q (tests/\S+\.py)$", guide, re.M)
    assert text in (ROOT / judge).read_text()
    assert any(text in path.read_text() for path in (ROOT / "gateway").rglob("*.py"))


def test_items_in_the_table_of_channels_that_are_no_channels_are_named() -> None:
    adapter = (ROOT / "gateway/adapters/aws/channels.py").read_text()
    prefixes = re.findall(r'^_\w+: Final = "(\w+/)"', adapter, re.M)
    page = (ROOT / "docs/migrating.md").read_text()
    assert len(prefixes) > 1 and [prefix for prefix in prefixes if f"`{prefix}<" not in page] == []


def test_no_guide_names_a_number_of_the_tests() -> None:
    """Machines differ, and suites grow. `make test` prints the times; `tests/file_times.json` has those of files."""
    sections = [(ROOT / "CONTRIBUTING.md").read_text()]
    for page in ("README.md", "docs/decisions.md"):
        sections.append(re.split(r"^## Tests$", (ROOT / page).read_text(), flags=re.M)[1].partition("\n## ")[0])
    number = r"\b\d[\d.,]*(?: to \d+)? (?:s|ms|seconds?|minutes?|hours?|(?:\w+ )?(?:tests?|suites?|files?|workers?))\b"
    assert [found for text in sections for found in re.findall(number, text)] == []


def test_the_commands_that_the_guide_names_exist() -> None:
    makefiles = "".join((ROOT / file).read_text() for file in ("Makefile", "bench/targets.mk"))
    verbs = set(re.findall(r"^([a-z-]+):", makefiles, re.M))
    for page in ("CONTRIBUTING.md", "README.md", "docs/decisions.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.M))
        assert named and named - verbs == set(), page


def test_public_names_for_installed_outputs_exist() -> None:
    section = (ROOT / "docs/extending.md").read_text().partition("### Public names")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(gateway[\w.]*)` \| (.+) \|$", section, re.M)
    assert len(rows) > 5
    for module, cell in rows:
        names, _, members = cell.partition(": ")
        found = [getattr(importlib.import_module(module), name) for name in re.findall(r"`(\w+)`", names)]
        assert found
        for member in re.findall(r"`(\w+)`", members):
            assert hasattr(found[-1], member) or member in _attributes(found[-1]), f"{module}: {member}"


def _attributes(cls: type) -> set[str]:
    """Returns the attributes that a class declares, or sets when it is created."""
    declared = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
    return declared | {name for name in cls.__init__.__code__.co_names if not name.startswith("_")}
