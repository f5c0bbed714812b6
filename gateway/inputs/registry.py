"""Finds the kinds of inputs in the folders beside this file."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from gateway import inputs as folder
from gateway.channels.inputs import InputKind
from gateway.inputs.descriptor import InputDescriptor


@functools.cache
def all_inputs() -> dict[InputKind, InputDescriptor]:
    """Returns the kinds of inputs that have a source. Pushes come from outside and have none."""
    found: dict[InputKind, InputDescriptor] = {}
    for module_info in pkgutil.iter_modules(folder.__path__):
        if module_info.ispkg:
            descriptor: InputDescriptor = importlib.import_module(f"{folder.__name__}.{module_info.name}").INPUT
            found[descriptor.kind] = descriptor
    return found
