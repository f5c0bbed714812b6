"""`millrace check-config` and `millrace doctor`: print the effective options, and missing parts of the machine."""

import tomllib
from typing import Any

import typer

from gateway.cli import common


def check_config(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Print every option with its value and its source; secrets are masked. Exit 2 if something is wrong."""
    from gateway.settings import missing_files
    from gateway.settings.layers import OPTIONS, shown

    merged = sources.merged()
    settings = merged.settings()
    values = {name: common.plain(shown(settings, name)) for name in OPTIONS}
    if as_json:
        common.print_json(
            {name: {"value": _typed(value), "source": merged.values[name].source} for name, value in values.items()}
        )
        values = {}
    width = max(map(len, OPTIONS))
    column = min(40, max(map(len, values.values()), default=0))
    for name, value in values.items():
        typer.echo(f"{name:<{width}} = {value:<{column}}  # {common.plain(merged.values[name].source)}")
    if missing := missing_files(settings):
        common.fail(common.USAGE, *missing)


def _typed(shown: str) -> Any:
    """Returns a shown value as JSON has it; a masked secret stays a text."""
    try:
        return tomllib.loads(f"value = {shown}")["value"]
    except tomllib.TOMLDecodeError:
        return shown


def doctor(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Report missing parts of this machine and ports in use. Exit 1 if something is missing."""
    settings = sources.settings()
    from gateway.app import doctor as checks

    raise typer.Exit(checks.main(settings, as_json))
