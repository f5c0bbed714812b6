"""`millrace check-config` and `millrace doctor`: print the effective options, and missing parts of the machine."""

import typer

from gateway.cli import common


def check_config(sources: common.Sources) -> None:
    """Print every option with its value and its source; secrets are masked. Exit 2 if something is wrong."""
    from gateway.settings import missing_files
    from gateway.settings.layers import OPTIONS, shown

    merged = sources.merged()
    settings = merged.settings()
    width = max(map(len, OPTIONS))
    values = {name: common.plain(shown(settings, name)) for name in OPTIONS}
    column = min(40, max(map(len, values.values())))
    for name, value in values.items():
        typer.echo(f"{name:<{width}} = {value:<{column}}  # {common.plain(merged.values[name].source)}")
    if missing := missing_files(settings):
        common.fail(common.USAGE, *missing)


def doctor(sources: common.Sources, as_json: common.JsonOption = False) -> None:
    """Report missing parts of this machine and ports in use. Exit 1 if something is missing."""
    settings = sources.settings()
    from gateway.app import doctor as checks

    raise typer.Exit(checks.main(settings, as_json))
