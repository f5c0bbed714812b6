"""`millrace check-config` and `millrace doctor`: print the options in effect, and what is missing."""

from __future__ import annotations

import typer

from gateway.cli import common


def check_config(
    config: common.ConfigOption = None, profile: common.ProfileOption = None, overrides: common.SetOption = None
) -> None:
    """Print every option with its value and where it comes from, secrets masked; exit 2 where something is wrong."""
    from gateway.settings import missing_files
    from gateway.settings.layers import OPTIONS, shown

    merged = common.merged(config, profile, overrides)
    settings = merged.settings()
    width = max(map(len, OPTIONS))
    values = {name: common.plain(shown(settings, name)) for name in OPTIONS}
    column = min(40, max(map(len, values.values())))
    for name, value in values.items():
        typer.echo(f"{name:<{width}} = {value:<{column}}  # {common.plain(merged.values[name].source)}")
    if missing := missing_files(settings):
        common.fail(common.USAGE, *missing)


def doctor(
    as_json: common.JsonOption = False,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
    overrides: common.SetOption = None,
) -> None:
    """Report missing parts of this machine and ports in use; exit 1 where something is missing."""
    settings = common.settings(config, profile, overrides)
    from gateway.app import doctor as examination

    raise typer.Exit(examination.main(settings, as_json))
