"""The files of the repository and their syntax trees, read once."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "gateway", ROOT / "proxy")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the gateway and of the edge by its path from the repository's root."""
    return {name(path): ast.parse(path.read_text("utf-8")) for path in packaged("*.py")}


@cache
def inside(module: str) -> tuple[ast.AST, ...]:
    """All syntax nodes of a module, in the order of `ast.walk`, which takes a second for all modules."""
    return tuple(ast.walk(modules()[module]))


def packaged(pattern: str) -> list[Path]:
    """The files of the packages whose names match the pattern."""
    return sorted(path for package in PACKAGES for path in package.rglob(pattern))


@cache
def files() -> tuple[Path, ...]:
    """All files of the repository: tracked, or new and not ignored. Without git, all but the usual ignored folders."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode().split("\0")  # fmt: skip
        found = [ROOT / one for one in listed if one]
    except (OSError, subprocess.CalledProcessError):
        ignored = {".git", ".venv", "var", "build", "dist", "node_modules", "__pycache__"}
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(part in ignored or (part.startswith(".") and part.endswith("_cache")) for part in path.parts)
        ]
    return tuple(sorted(path for path in found if path.is_file()))


@cache
def texts() -> dict[str, str]:
    """The text files by their path from the root, without vendored players and lock files."""
    found = {}
    for path in files():
        if "vendor" in path.parts or path.suffix == ".lock":
            continue
        try:
            found[name(path)] = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


KINDS = (ast.Attribute, ast.Call, ast.ClassDef, ast.ExceptHandler, ast.Raise)


def nodes(kind: type[ast.AST]) -> Sequence[tuple[str, ast.AST]]:
    """Every syntax node of one of `KINDS`, with its module."""
    return _nodes()[kind]


@cache
def _nodes() -> dict[type[ast.AST], list[tuple[str, ast.AST]]]:
    found: dict[type[ast.AST], list[tuple[str, ast.AST]]] = {kind: [] for kind in KINDS}
    for module in modules():
        for node in inside(module):
            if type(node) in found:
                found[type(node)].append((module, node))
    return found
