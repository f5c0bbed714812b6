"""What the commands share: the options that choose the configuration, and how a failure is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.settings import Merged, Settings

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
    """Say each line on stderr and end with the exit code."""
    for line in lines:
        typer.echo(f"millrace: {line}", err=True)
    raise typer.Exit(code)


def merged(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Merged:
    from gateway.settings import merge

    return merge(config=config, profile=profile, overrides=overrides or ())


def settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    return merged(config, profile, overrides).settings()


def ready_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """The same for who serves: every file that they name is there."""
    from gateway.settings import SettingsError, missing_files

    found = settings(config, profile, overrides)
    if missing := missing_files(found):
        raise SettingsError(missing)
    return found


def edge_settings(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> Settings:
    """The same for an edge: something says where streams are, and gateways will answer it."""
    from gateway.settings import SettingsError

    found = ready_settings(config, profile, overrides)
    if not found.registry and not found.edge.upstream:
        raise SettingsError(["an edge needs to know where streams are: set registry, or edge.upstream"])
    if not found.cluster.secret.get_secret_value():
        raise SettingsError(["cluster.secret is not set: gateways answer no edge that does not know theirs"])
    return found


def given(config: Path | None, profile: str | None, overrides: list[str] | None = None) -> list[str]:
    """The options that choose the configuration, as a command line has them."""
    found = ["--config", str(config)] if config is not None else []
    found += ["--profile", profile] if profile is not None else []
    for one in overrides or ():
        found += ["--set", one]
    return found


def plain(text: str) -> str:
    """Stored text for a terminal: what it would obey instead of showing is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
