"""Rules of docstrings: they begin with a sentence, and names of code stand in backticks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.architecture.sources import inside, modules

_PARAMETER = re.compile(r"\s*[a-z_]\w*(, \*{0,2}[a-z_]\w*)*: ")
# A line may begin with the names of parameters. Later names follow a full stop.
_DESCRIBED = re.compile(r"(^\s*|\. |; )\*{0,2}[a-z_]\w*(, \*{0,2}[a-z_]\w*)*: ", re.M)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"\n]*\"|<[^>\n]*>|\[[^\]\n]*\]")
_IDENTIFIER = re.compile(r"(?<![\w./:=-])[a-z]+(?:_[a-z0-9]+)+(?![\w(/=]|\.\w)")


def docstrings() -> Iterator[tuple[str, str]]:
    """Yields the place and the text of each docstring."""
    for path in modules():
        for node in inside(path):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path}:{getattr(node, 'lineno', 1)}", text


def test_a_docstring_begins_with_a_sentence_and_not_with_a_parameter() -> None:
    assert [place for place, text in docstrings() if _PARAMETER.match(text)] == []


def test_an_identifier_in_a_docstring_stands_in_backticks() -> None:
    found = [
        f"{place} {word}"
        for place, text in docstrings()
        for word in _IDENTIFIER.findall(_QUOTED.sub(" ", _DESCRIBED.sub(" ", text)))
    ]
    assert found == []
