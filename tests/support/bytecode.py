"""Writes the bytecode of tests and program once, before the workers of a run begin.

In a fresh copy of the repository each worker would compile every module at the same time as all others: as much CPU as
its import of all modules once they are compiled.
"""

from __future__ import annotations

import compileall
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

_ROOT = Path(__file__).resolve().parents[2]
_PLAIN = ("gateway", "proxy", "tests/support")  # without rewritten assertions
_HASH = slice(8, 16)  # of the source, in the head of bytecode that pytest writes (PEP 552)

_FORBIDS = "PYTHONDONTWRITEBYTECODE"

_config: pytest.Config  # for the processes that are forked below


def allow() -> None:
    """Removes `PYTHONDONTWRITEBYTECODE` of a shell from this process and from those that it starts.

    With it, each process of a test compiles the program and the test modules anew: a run needs twice the CPU.
    """
    if os.environ.pop(_FORBIDS, ""):
        sys.dont_write_bytecode = False


def write(config: pytest.Config, paths: Iterable[Path], cores: int = os.cpu_count() or 1) -> None:
    """Compiles the program and the test modules in these folders, on so many cores. What is current stays."""
    global _config
    _config = config
    for folder in _PLAIN:
        compileall.compile_dir(_ROOT / folder, quiet=2, workers=cores)
    found = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))}
    stale = sorted(file for file in found if _is_rewritten(file) and not _is_current(file))
    if cores == 1 or len(stale) <= cores:
        for file in stale:
            _compile(file)
    else:
        with multiprocessing.get_context("fork").Pool(cores) as pool:
            pool.map(_compile, stale)


def stored(file: Path) -> Path:
    """The path of a test module's bytecode, where pytest looks for it."""
    return Path(rewrite.get_cache_dir(file), file.stem + rewrite.PYC_TAIL)


def _is_rewritten(file: Path) -> bool:
    return file.name.startswith("test_") or file.name == "conftest.py"


def _is_current(file: Path) -> bool:
    try:
        with stored(file).open("rb") as bytecode:
            return bytecode.read(16)[_HASH] == importlib.util.source_hash(file.read_bytes())
    except FileNotFoundError:
        return False


def _compile(file: Path) -> None:
    """Does what the import hook of pytest does if there is no bytecode."""
    target = stored(file)
    rewrite.try_makedirs(target.parent)
    hash, code = rewrite._rewrite_test(file, _config)
    rewrite._write_pyc(_config.stash[rewrite.assertstate_key], code, hash, target)


def folders(config: pytest.Config) -> Sequence[Path]:
    """The folders and files whose tests a run collects."""
    return [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
