"""The options and error output that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.settings import MergedOptions, Settings

USAGE, FAILED = 2, 1

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A TOML file with options (also MILLRACE_CONFIG).")
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="One of config/*.toml (also MILLRACE_PROFILE).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.OPTION=VALUE", help="One option, over everything else; may be repeated."),
]
LinkOption = Annotated[
    int | None, typer.Option("--link", hidden=True, help="The descriptor of a worker's link to its master.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(code: int, *lines: str) -> NoReturn:
    """Prints each line on stderr and exits with the code."""
    for line in lines:
        typer.echo(f"millrace: {line}", err=True)
    raise typer.Exit(code)


def merged(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> MergedOptions:
    from gateway.settings import merge

    return merge(config=config, profile=profile, overrides=overrides or ())


def settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    return merged(config, profile, overrides).settings()


def ready_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """Returns the settings for a server. Raises SettingsError where a file that they name is missing."""
    from gateway.settings import SettingsError, missing_files

    found = settings(config, profile, overrides)
    if missing := missing_files(found):
        raise SettingsError(missing)
    return found


def load_outputs() -> None:
    """Finds all outputs, so that their fields are channel fields. Raises SettingsError where one cannot be used."""
    from gateway.outputs.registry import all_outputs

    all_outputs()


def edge_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """Returns the settings for an edge. Raises SettingsError where it would not find streams or has no secret."""
    from gateway.settings import SettingsError

    found = ready_settings(config, profile, overrides)
    if not found.registry and not found.edge.upstream:
        raise SettingsError(["an edge needs to know where streams are: set registry, or edge.upstream"])
    if not found.cluster.secret.get_secret_value():
        raise SettingsError(["cluster.secret is not set: gateways refuse an edge that does not have their secret"])
    return found


def config_arguments(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> list[str]:
    """Returns the options that choose the configuration as command line arguments."""
    found = ["--config", str(config)] if config is not None else []
    found += ["--profile", profile] if profile is not None else []
    for one in overrides or ():
        found += ["--set", one]
    return found


def plain(text: str) -> str:
    """Returns stored text for a terminal, with control characters replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
