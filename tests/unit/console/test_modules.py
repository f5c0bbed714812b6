"""The console's modules: all their imports exist, and the page preloads the modules of every view."""

import json
import re
from pathlib import Path

CONSOLE = Path(__file__).resolve().parents[3] / "gateway" / "console"
APP = CONSOLE / "app"
PAGE = (APP / "index.html").read_text()
_STATIC = re.compile(r'^(?:import|export) (?:[^;"]*? from )?"([^"]+)";', re.M)
_MINIFIED = re.compile(r'\bfrom\s*"([^"]+)"')
_LAZY = re.compile(r'\bimport\(\s*"([^"]+)"\s*\)')


def names() -> dict[str, str]:
    """The import map of the page."""
    found = re.search(r'<script type="importmap">(.*?)</script>', PAGE, re.S)
    assert found is not None
    return dict(json.loads(found[1])["imports"])


def code(file: Path) -> str:
    """The source of a file without comments, which may mention modules in types."""
    return re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S)


def imports(file: Path, pattern: re.Pattern[str] = _STATIC) -> list[Path]:
    found = []
    for name in pattern.findall(code(file)):
        where = CONSOLE / names()[name].removeprefix("/console/") if not name.startswith(".") else file.parent / name
        found.append(where.resolve())
    return found


def graph(*files: Path) -> set[Path]:
    """These files and everything they import statically."""
    seen: set[Path] = set()
    left = list(files)
    while left:
        file = left.pop()
        if file not in seen:
            seen.add(file)
            left += imports(file, _STATIC if file.is_relative_to(APP) else _MINIFIED)
    return seen


def test_all_imported_modules_exist() -> None:
    vendored = {file.name for file in (CONSOLE / "vendor").glob("*/*.js")}
    for file in APP.rglob("*.js"):
        for target in imports(file) + imports(file, _LAZY):
            # The gateway serves what players have vendored beside them too.
            known = target.is_file() or (target.parent.name == "players" and target.name in vendored)
            assert known, f"{file.relative_to(APP)} imports {target}, which is not there"


def test_the_page_preloads_exactly_the_modules_of_every_view() -> None:
    listed = re.findall(r'<link rel="modulepreload" href="/console/([^"]+)">', PAGE)
    needed = graph(APP / "main.js", APP / "ui.js") - {APP / "main.js"}
    own = sorted(str(file.relative_to(CONSOLE)) for file in needed if file.is_relative_to(CONSOLE))
    assert sorted(listed) == own


def test_the_console_never_parses_strings_as_html() -> None:
    for file in APP.rglob("*.js"):
        found = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code(file))
        assert found is None, f"{file.relative_to(APP)}: {found}"
