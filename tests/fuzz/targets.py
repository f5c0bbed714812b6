"""Targets with their seeds. A target takes any bytes and fails if its parser misbehaves."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """name: of its module without `fuzz_`; seeds: inputs of the form it reads."""

    name: str
    fuzz: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


NAMES = tuple(sorted(path.stem.removeprefix("fuzz_") for path in Path(__file__).parent.glob("fuzz_*.py")))


def target(name: str) -> Target:
    """The target of this name: its module has `SEEDS`, or `seeds()` where they are made. KeyError for an unknown."""
    if name not in NAMES:
        raise KeyError(name)
    module = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    seeds = module.SEEDS if hasattr(module, "SEEDS") else module.seeds()
    return Target(name, module.fuzz, tuple(seeds))
