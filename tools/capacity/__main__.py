"""Prints the tables of docs/capacity.md, or writes them into it.

python -m tools.capacity [TABLE …]     all, or those named
python -m tools.capacity --write       every table of the page, in place
python -m tools.capacity --list        their names
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tools.capacity.tables import TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n)(.*?)(\n?<!-- end -->)", re.S)


def tables_of(page: str) -> dict[str, str]:
    """The tables that stand in a page, by name."""
    return {match[2]: match[3] for match in MARKED.finditer(page)}


def written(page: str) -> str:
    """The page with every table computed anew."""
    return MARKED.sub(lambda m: m[1] + TABLES[m[2]]() + "\n<!-- end -->", page)


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
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    else:
        for name in given.table or TABLES:
            print(f"\n{name}\n\n{TABLES[name]()}")


if __name__ == "__main__":
    main()
