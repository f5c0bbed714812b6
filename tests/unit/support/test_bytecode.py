"""The bytecode that is written before the workers of a run begin is what they would write themselves."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from tests.support import bytecode


def test_bytecode_is_that_of_pytest_and_is_written_again_only_after_a_change(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "test_written_before.py"
    module.write_text("def judged(x):\n    assert x == 1\n")
    (tmp_path / "plain.py").write_text("x = 1\n")
    bytecode.write(pytestconfig, [tmp_path], cores=1)
    written = bytecode.stored(module)
    first = written.read_bytes()
    assert [file.name for file in written.parent.iterdir()] == [written.name], "other modules are no tests"

    # The hook of pytest finds it, and the assertions tell their values.
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("_pytest.assertion.rewrite._rewrite_test", None)
    judged = importlib.import_module(module.stem).judged
    with pytest.raises(AssertionError, match="2 == 1"):
        judged(2)
    monkeypatch.undo()
    sys.modules.pop(module.stem)

    kept = written.stat().st_ino
    bytecode.write(pytestconfig, [module], cores=1)
    assert written.stat().st_ino == kept
    module.write_text("def judged(x):\n    assert x == 3\n")
    bytecode.write(pytestconfig, [module], cores=1)
    assert written.read_bytes() != first


def test_bytecode_is_written_also_where_a_shell_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    bytecode.allow()
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ and not sys.dont_write_bytecode
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # by -B
    bytecode.allow()
    assert sys.dont_write_bytecode
