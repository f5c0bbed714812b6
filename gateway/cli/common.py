"""The options, the output and the reading of settings that the commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

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
    typer.Option(
        "--set", metavar="SECTION.OPTION=VALUE", help="One option, overrides every other source; may be repeated."
    ),
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


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(lines: Iterable[tuple[str, str]]) -> None:
    """Prints labels and values, one pair on each line."""
    for label, value in lines:
        typer.echo(f"{label:<12}{plain(value)}")


def merged(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> MergedOptions:
    from gateway.settings import merge

    return merge(config=config, profile=profile, overrides=overrides or ())


def settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    return merged(config, profile, overrides).settings()


def ready_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """Returns the settings for a server. Raises SettingsError if they name a file that is missing."""
    from gateway.settings import SettingsError, missing_files

    result = settings(config, profile, overrides)
    if missing := missing_files(result):
        raise SettingsError(missing)
    return result


def load_outputs() -> None:
    """Loads all outputs, so that their fields are channel fields. Raises SettingsError if one cannot be used."""
    from gateway.outputs.registry import all_outputs

    all_outputs()


def edge_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """Returns the settings for an edge. Raises SettingsError without a secret, or without a way to find streams."""
    from gateway.settings import SettingsError

    result = ready_settings(config, profile, overrides)
    if not result.registry and not result.edge.upstream:
        raise SettingsError(["an edge needs to know where streams are: set registry, or edge.upstream"])
    if not result.cluster.secret.get_secret_value():
        raise SettingsError(["cluster.secret is not set: gateways refuse an edge that does not have their secret"])
    return result


def config_arguments(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> list[str]:
    """Returns the command line arguments that select this configuration."""
    arguments = ["--config", str(config)] if config is not None else []
    arguments += ["--profile", profile] if profile is not None else []
    for override in overrides or ():
        arguments += ["--set", override]
    return arguments


def plain(text: str) -> str:
    """Returns stored text for a terminal, with control characters replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
