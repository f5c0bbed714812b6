"""Prints the tables of docs/capacity.md, or writes them into it.

python -m tools.capacity [TABLE …]     all, or those named
python -m tools.capacity --write       every table of the page, in place
python -m tools.capacity --list        their names
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
from pathlib import Path

from tools.capacity.tables import TABLES

PACKAGE = Path(__file__).resolve().parent
PAGE = PACKAGE.parents[1] / "docs" / "capacity.md"
WRITTEN = PACKAGE / "written.sha256"  # the fingerprint of page and code when the tables were written last
MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n)(.*?)(\n?<!-- end -->)", re.S)


def tables_of(page: str) -> dict[str, str]:
    """The tables that stand in a page, by name."""
    return {match[2]: match[3] for match in MARKED.finditer(page)}


def written(page: str) -> str:
    """The page with every table computed anew."""
    return MARKED.sub(lambda m: m[1] + TABLES[m[2]]() + "\n<!-- end -->", page)


def code(folder: Path = PACKAGE) -> str:
    """Fingerprint of what the tables are computed from: this package's code without comments and docstrings.

    Another version of Python has other trees, and may compute other tables.
    """
    seen = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                del node.body[0]
        seen.update(f"{path.name}\n{ast.dump(tree)}\n".encode())
    return seen.hexdigest()


def fingerprint(page: str, code: str) -> str:
    """Of a page's tables and of the code that they are from."""
    return hashlib.sha256(repr((code, sorted(tables_of(page).items()))).encode()).hexdigest()


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("table", nargs="*", choices=[*TABLES, []], help="all without")
    options.add_argument("--write", action="store_true", help="into docs/capacity.md")
    options.add_argument("--list", action="store_true", help="the names of the tables")
    given = options.parse_args()
    if given.list:
        print("\n".join(TABLES))
    elif given.write:
        page = written(PAGE.read_text("utf-8"))
        PAGE.write_text(page, "utf-8")
        WRITTEN.write_text(f"{fingerprint(page, code())}\n", "utf-8")
    else:
        for name in given.table or TABLES:
            print(f"\n{name}\n\n{TABLES[name]()}")


if __name__ == "__main__":
    main()
