"""Options of the configuration: some part of the program reads each of them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from typing import TypeGuard

from gateway.settings.layers import OPTIONS, SECTIONS
from gateway.settings.models import LISTENERS, Settings
from tests.architecture.sources import inside, modules

# These look at the options without doing what they say.
LOOKERS = ("gateway/settings/", "gateway/app/doctor.py", "gateway/adapters/local/host.py")

_MODELS = {info.annotation.__name__: section for section, info in Settings.model_fields.items()
           if section in SECTIONS and isinstance(info.annotation, type)}  # fmt: skip

_NAMES = {option.rpartition(".")[2] for option in OPTIONS}


@functools.cache
def read() -> frozenset[str]:
    """The options that the code reads, found by names: `….rtmp.host`, `rtmp.host`, and `x.host` of an `x: Rtmp`."""
    found: set[str] = set()
    for module in modules():
        if not module.startswith(LOOKERS):
            for function in inside(module):
                if isinstance(function, ast.Module):
                    found |= _read_in(function, inside(module))
                elif isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= _read_in(function, list(ast.walk(function)))
                elif isinstance(function, ast.Call) and ast.unparse(function.func).endswith("settings.listeners"):
                    found |= {f"{name}.{option}" for name in LISTENERS for option in ("host", "port")}
                    found |= {"srt.srtla_port", "rtsp.tls_port"}
    return frozenset(found)


def _read_in(scope: ast.FunctionDef | ast.AsyncFunctionDef | ast.Module, syntax: Sequence[ast.AST]) -> set[str]:
    """Finds options in one scope. `settings = self._settings.cloudfront` names a section within its function.

    syntax: all nodes of the scope.
    """
    named: dict[str, str] = {section: section for section in SECTIONS}
    if not isinstance(scope, ast.Module):
        for argument in (*scope.args.args, *scope.args.kwonlyargs):
            kind = ast.unparse(argument.annotation).rpartition(".")[2] if argument.annotation else ""
            if kind in _MODELS:
                named[argument.arg] = _MODELS[kind]
    for node in syntax:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = zip(_each(target), _each(node.value), strict=False)
                named |= {ast.unparse(to): of.attr for to, of in pairs if _is_section(of) and isinstance(to, ast.Name)}
    found = set()
    for node in syntax:
        if isinstance(node, ast.Attribute) and node.attr in _NAMES:
            *_, owner = ("", *ast.unparse(node.value).split("."))
            option = f"{named.get(owner.lstrip('_'), '')}.{node.attr}"
            found |= {option} & OPTIONS.keys()
            if owner.lstrip("_") == "settings" and node.attr in OPTIONS:
                found.add(node.attr)
    return found


def _each(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _is_section(node: ast.expr) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr in SECTIONS


def test_the_code_reads_every_option() -> None:
    assert sorted(OPTIONS.keys() - read()) == []
