"""Finds the outputs: in the folders beside this file, and in installed packages that name one.

A package names its output by an entry point in the group `millrace.outputs`, in its `pyproject.toml`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points

from gateway import outputs as folder
from gateway.channels import fields
from gateway.outputs.descriptor import OutputDescriptor
from gateway.settings import SettingsError

GROUP = "millrace.outputs"


@functools.cache
def all_outputs() -> tuple[OutputDescriptor, ...]:
    """Every output, in the order in which those of a stream start. Their fields are channel fields from now on.

    Raises SettingsError where an installed one cannot be used: it fails to load, or its name or a field is taken.
    """
    found: dict[str, OutputDescriptor] = {}
    for output in (*_own(), *_installed()):
        if output.name in found:
            raise SettingsError([f"{GROUP}: two outputs are called {output.name!r}"])
        found[output.name] = output
        try:
            fields.add({name: one.field for name, one in output.fields.items()})
            _ = fields.FLAGS[output.flag]
        except ValueError as error:
            raise SettingsError([f"{GROUP}: output {output.name!r}: {error}"]) from None
        except KeyError:
            raise SettingsError([f"{GROUP}: output {output.name!r}: no field is its flag {output.flag!r}"]) from None
    return tuple(sorted(found.values(), key=lambda output: (output.order, output.name)))


def _own() -> Iterator[OutputDescriptor]:
    for info in pkgutil.iter_modules(folder.__path__):
        if info.ispkg:
            module = importlib.import_module(f"{folder.__name__}.{info.name}")
            yield from getattr(module, "OUTPUTS", ())
            if hasattr(module, "OUTPUT"):
                yield module.OUTPUT


def _installed() -> Iterator[OutputDescriptor]:
    for point in entry_points(group=GROUP):
        try:
            output = point.load()
        except Exception as error:  # it is somebody else's code
            raise SettingsError([f"{GROUP}: {point.value} does not load: {type(error).__name__}: {error}"]) from error
        if not isinstance(output, OutputDescriptor):
            raise SettingsError([f"{GROUP}: {point.value} is no OutputDescriptor"])
        yield output
