"""Rule of `gateway/live`: an attribute is written by its own class, and by those that the docstring names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from tests.architecture.sources import inside, modules

ROOM = "gateway/live/"


def _classes() -> dict[str, tuple[str, ast.ClassDef]]:
    """The classes of the room with a state that others may write, by name, with their modules."""
    found = ((m, node) for m in modules() if m.startswith(ROOM) for node in inside(m) if isinstance(node, ast.ClassDef))
    return {
        node.name: (module, node)
        for module, node in found
        if not node.name.startswith("_")
        and "Protocol" not in map(_last_name, node.bases)
        and not any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def _attributes(node: ast.ClassDef) -> set[str]:
    """The attributes that a class declares or sets on itself."""
    declared = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return declared | {n.attr for n in _writes(node) if _last_name(n.value) == "self"}


def _writes(node: ast.AST) -> Iterator[ast.Attribute]:
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store | ast.Del):
            yield child


def _writers(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The classes of a module, and its functions outside them."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    yield from (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _last_name(node: ast.AST) -> str:
    """The last name of an expression: `publisher` of `stream.publisher`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _types(module: str, known: Collection[str], of_room: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The classes of each variable and attribute of a module: by annotations, calls of classes, and copies.

    of_room: those of the attributes in the room.
    """
    found: dict[str, set[str]] = defaultdict(set)
    copies: list[tuple[str, ast.AST]] = []
    for node in inside(module):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else _last_name(node.target)
            found[name] |= set(re.findall(r"\w+", ast.unparse(node.annotation))) & set(known)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            found[node.name] |= set(re.findall(r"\w+", ast.unparse(node.returns))) & set(known)
        elif isinstance(node, ast.NamedExpr):
            copies.append((node.target.id, node.value))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    copies += zip(map(_last_name, target.elts), node.value.elts, strict=False)
                else:
                    copies.append((_last_name(target), node.value))
    for _ in range(2):  # a copy of a copy
        for name, value in copies:
            source = value.func if isinstance(value, ast.Call) else value
            of = _last_name(source)
            found[name] |= found[of] | ({of} & set(known))
            if isinstance(source, ast.Attribute):
                found[name] |= of_room.get(of, set())
    return found


def test_attributes_of_live_are_written_by_the_owner_that_the_docstring_names() -> None:
    classes = _classes()
    attributes = {name: _attributes(node) for name, (_, node) in classes.items()}
    of_room: dict[str, set[str]] = defaultdict(set)
    for module in (module for module in modules() if module.startswith(ROOM)):
        for name, types in _types(module, classes, {}).items():
            of_room[name] |= types
    found, seen = [], set()
    for module, tree in modules().items():
        imports = (node.module or "" for node in inside(module) if isinstance(node, ast.ImportFrom))
        if not module.startswith(ROOM) and not any(name.startswith("gateway.live") for name in imports):
            continue
        types = _types(module, classes, of_room)
        for writer in _writers(tree):
            names = {writer.name, *map(_last_name, getattr(writer, "bases", ()))}
            for node in _writes(writer):
                target = _last_name(node.value)
                owners = types[target] | (of_room[target] if isinstance(node.value, ast.Attribute) else set())
                for owner in (owner for owner in owners if node.attr in attributes[owner] and target != "self"):
                    place, definition = classes[owner]
                    texts = (ast.get_docstring(modules()[place]) or "") + (ast.get_docstring(definition) or "")
                    seen.add(f"{owner}.{node.attr}")
                    if owner not in names and not any(f"`{name}`" in texts for name in names):
                        found.append(f"{module}:{node.lineno}: {writer.name} writes {owner}.{node.attr}")
    assert {"Stream.publisher", "ReceivedMedia.on_script", "StreamPublisher.network"} <= seen, "the rule finds writes"
    assert found == [], "give the owner a method, or name the writer in its docstring"
