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


def plain(text: str) -> str:
    """Stored text for a terminal: what it would obey instead of showing is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
