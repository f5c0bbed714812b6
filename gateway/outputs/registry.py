"""Finds the outputs in the folders beside this file and in installed packages.

A package declares its output as an entry point of the group `millrace.outputs` in its `pyproject.toml`.
"""

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
    """Returns all outputs in the order in which they start, and adds their fields to the channel fields.

    Raises SettingsError if an installed output fails to load, or if its name or one of its fields is in use.
    """
    found: dict[str, OutputDescriptor] = {}
    for output in (*_built_in(), *_installed()):
        if output.name in found:
            raise SettingsError([f"{GROUP}: two outputs are called {output.name!r}"])
        found[output.name] = output
        try:
            fields.add({name: output_field.field for name, output_field in output.fields.items()})
            _ = fields.FLAGS[output.flag]
        except ValueError as error:
            raise SettingsError([f"{GROUP}: output {output.name!r}: {error}"]) from None
        except KeyError:
            raise SettingsError(
                [f"{GROUP}: output {output.name!r}: its flag {output.flag!r} is not a channel field"]
            ) from None
    return tuple(sorted(found.values(), key=lambda output: (output.order, output.name)))


def _built_in() -> Iterator[OutputDescriptor]:
    for module_info in pkgutil.iter_modules(folder.__path__):
        if module_info.ispkg:
            module = importlib.import_module(f"{folder.__name__}.{module_info.name}")
            yield from getattr(module, "OUTPUTS", ())
            if hasattr(module, "OUTPUT"):
                yield module.OUTPUT


def _installed() -> Iterator[OutputDescriptor]:
    for entry_point in entry_points(group=GROUP):
        try:
            output = entry_point.load()
        except Exception as error:  # code of another package can raise anything
            raise SettingsError(
                [f"{GROUP}: {entry_point.value} does not load: {type(error).__name__}: {error}"]
            ) from error
        if not isinstance(output, OutputDescriptor):
            raise SettingsError([f"{GROUP}: {entry_point.value} is not an OutputDescriptor"])
        yield output
