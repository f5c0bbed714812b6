"""The player pages work under a policy without 'unsafe-inline', and all their assets exist."""

import re
from pathlib import Path

import pytest

import gateway

CONSOLE = Path(gateway.__file__).parent / "console"
PAGES = [*sorted((CONSOLE / "players").glob("*.html")), CONSOLE / "film" / "film.html"]
SCRIPTS = sorted((CONSOLE / "players").glob("*.js"))


def exists(name: str) -> bool:
    return any((folder / name).is_file() for folder in (CONSOLE / "players", CONSOLE, *(CONSOLE / "vendor").iterdir()))


def test_all_player_pages_exist() -> None:
    names = {page.name for page in PAGES}
    players = {"dash.html", "flv.html", "hls.html", "index.html", "instant.html"}
    assert names >= players | {"home.html", "watch.html", "film.html"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_no_inline_code_and_no_foreign_resources(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_assets_of_a_page_exist(page: Path) -> None:
    assets = re.findall(r"(?:src|href)=\"/_player/([^\"]+)\"", page.read_text())
    assert assets
    assert all(exists(name) for name in assets)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_imports_of_a_script_exist_and_its_name_is_unique(script: Path) -> None:
    text = script.read_text()
    assert all(exists(name) for name in re.findall(r"from \"\./([^\"]+)\"", text))
    assert "innerHTML" not in text
    # One flat address space for own and vendored files: none may hide another.
    assert sum((folder / script.name).is_file() for folder in (CONSOLE / "vendor").iterdir()) == 0
