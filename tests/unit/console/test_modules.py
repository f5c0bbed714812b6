"""The console's modules: everything they import is there, and the page asks at once for what every view needs."""

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
    """The page's import map."""
    found = re.search(r'<script type="importmap">(.*?)</script>', PAGE, re.S)
    assert found is not None
    return dict(json.loads(found[1])["imports"])


def code(file: Path) -> str:
    """The file without its comments, which name modules for their types."""
    return re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S)


def imports(file: Path, pattern: re.Pattern[str] = _STATIC) -> list[Path]:
    found = []
    for name in pattern.findall(code(file)):
        where = CONSOLE / names()[name].removeprefix("/console/") if not name.startswith(".") else file.parent / name
        found.append(where.resolve())
    return found


def graph(*files: Path) -> set[Path]:
    """These files and all that they import before they run."""
    seen: set[Path] = set()
    left = list(files)
    while left:
        file = left.pop()
        if file not in seen:
            seen.add(file)
            left += imports(file, _STATIC if file.is_relative_to(APP) else _MINIFIED)
    return seen


def test_everything_that_is_imported_is_there() -> None:
    vendored = {file.name for file in (CONSOLE / "vendor").glob("*/*.js")}
    for file in APP.rglob("*.js"):
        for target in imports(file) + imports(file, _LAZY):
            # The gateway serves what players have vendored beside them too.
            known = target.is_file() or (target.parent.name == "players" and target.name in vendored)
            assert known, f"{file.relative_to(APP)} imports {target}, which is not there"


def test_page_asks_at_once_for_what_every_view_needs() -> None:
    listed = re.findall(r'<link rel="modulepreload" href="/console/([^"]+)">', PAGE)
    needed = graph(APP / "main.js", APP / "ui.js") - {APP / "main.js"}
    own = sorted(str(file.relative_to(CONSOLE)) for file in needed if file.is_relative_to(CONSOLE))
    assert sorted(listed) == own


def test_nothing_is_ever_parsed_as_markup() -> None:
    for file in APP.rglob("*.js"):
        found = re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code(file))
        assert found is None, f"{file.relative_to(APP)}: {found}"
