"""Finds the kinds of inputs in the folders beside this file."""

import functools
import importlib
import pkgutil

from gateway import inputs as folder
from gateway.channels.inputs import InputKind
from gateway.inputs.descriptor import InputDescriptor


@functools.cache
def all_inputs() -> dict[InputKind, InputDescriptor]:
    """Returns the kinds of inputs that have a source. Pushes come from outside and have none."""
    packages = [info.name for info in pkgutil.iter_modules(folder.__path__) if info.ispkg]
    inputs = [importlib.import_module(f"{folder.__name__}.{name}").INPUT for name in packages]
    return {descriptor.kind: descriptor for descriptor in inputs}
