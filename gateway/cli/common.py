"""The options, the output and the reading of settings that the commands share."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.settings.layers import MergedOptions

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
    int | None, typer.Option("--link", hidden=True, help="The file descriptor on which the master asks for workers.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(code: int, *lines: str) -> NoReturn:
    """Prints each line on stderr and exits with the code."""
    for line in lines:
        typer.echo(f"millrace: {line}", err=True)
    raise typer.Exit(code)


def json_text(value: Any, indent: int | None = None) -> str:
    """Returns JSON for stdout. It is in ASCII if the encoding of the locale does not have all characters."""
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not unicode, indent=indent)


def print_json(value: Any) -> None:
    typer.echo(json_text(value, 2))


def print_table(lines: Iterable[tuple[str, str]]) -> None:
    """Prints labels and values, one pair on each line."""
    for label, value in lines:
        typer.echo(f"{label:<12}{plain(value)}")


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints columns. The header is for people: a pipe gets the rows alone."""
    shown = [header, *rows] if sys.stdout.isatty() else rows
    widths = [max((len(row[n]) for row in shown), default=0) for n in range(len(header) - 1)]
    for row in shown:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        typer.echo(plain("  ".join([*cells, row[-1]])).rstrip())


@dataclass(frozen=True, slots=True)
class Sources:
    """The options with which a user chooses the sources of the settings. See `command`."""

    config: Path | None
    profile: str | None
    overrides: Sequence[str] | None = None

    def merged(self) -> MergedOptions:
        from gateway.settings import merge

        return merge(config=self.config, profile=self.profile, overrides=self.overrides or ())

    def settings(self) -> Settings:
        return self.merged().settings()

    def config_file(self) -> Path | None:
        """Returns the settings file of --config or MILLRACE_CONFIG; None if there is none."""
        from gateway.settings.layers import CONFIG

        named = os.environ.get(CONFIG)
        return self.config or (Path(named) if named else None)

    def ready_settings(self) -> Settings:
        """Returns the settings for a server. Raises SettingsError if they name a file that is missing."""
        from gateway.settings import SettingsError, missing_files

        settings = self.settings()
        if missing := missing_files(settings):
            raise SettingsError(missing)
        return settings

    def edge_settings(self) -> Settings:
        """Returns the settings for an edge. Raises SettingsError without a secret or a way to find streams."""
        from gateway.settings import SettingsError

        settings = self.ready_settings()
        if not settings.registry and not settings.edge.upstream:
            raise SettingsError(["an edge needs to know where streams are: set registry, or edge.upstream"])
        if not settings.cluster.secret.get_secret_value():
            raise SettingsError(["cluster.secret is not set: gateways refuse an edge that does not have their secret"])
        return settings

    def arguments(self) -> list[str]:
        """Returns the command line arguments for another process with the same sources."""
        arguments = ["--config", str(self.config)] if self.config is not None else []
        arguments += ["--profile", self.profile] if self.profile is not None else []
        for override in self.overrides or ():
            arguments += ["--set", override]
        return arguments


def command(
    app: typer.Typer, name: str | None = None, **about: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the function below it to the commands, with the options --config, --profile and --set.

    The function gets these as `Sources`, its first argument. name, about: as in `typer.Typer.command`.
    """
    options = {"config": ConfigOption, "profile": ProfileOption, "overrides": SetOption}

    def add(function: Callable[..., None]) -> Callable[..., None]:
        _, *parameters = inspect.signature(function, eval_str=True).parameters.values()
        for option, annotation in options.items():
            parameters.append(
                inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )

        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            sources = Sources(**{option: arguments.pop(option) for option in options})
            function(sources, **arguments)

        # typer reads the arguments and options of the command from these.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(name, **about)(run)

    return add


def command_within(
    open_context: Callable[[Sources], AbstractAsyncContextManager[Any]], app: typer.Typer, name: str | None = None
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Adds the coroutine function below it to the commands. It gets the opened context as its first argument."""

    def add(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(sources: Sources, **arguments: Any) -> None:
            async def main() -> None:
                async with open_context(sources) as context:
                    await function(context, **arguments)

            asyncio.run(main())

        return command(app, name)(run)

    return add


def load_outputs() -> None:
    """Loads all outputs, so that their fields are channel fields. Raises SettingsError if one cannot be used."""
    from gateway.outputs.registry import all_outputs

    all_outputs()


def plain(text: str) -> str:
    """Returns stored text for a terminal, with control characters replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
