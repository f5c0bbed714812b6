"""`millrace storage …`: the lifecycle rules of the bucket in which recordings are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession
    from gateway.settings import Settings

app = typer.Typer(
    help="Show and set the lifecycle rules of the bucket of `objects` (needs AWS credentials and a region).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def show(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Print the bucket's lifecycle rules."""
    settings = _settings(config, profile)

    async def work(aws: AwsSession) -> list[dict[str, Any]]:
        from gateway.adapters.aws import lifecycle

        return await lifecycle.show(aws, _bucket(settings))

    _print(asyncio.run(_with(work)), as_json)


@app.command()
def apply(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Write the rules that the section [recording] describes; rules of others, named otherwise, stay."""
    settings = _settings(config, profile)

    async def work(aws: AwsSession) -> list[dict[str, Any]]:
        from gateway.adapters.aws import lifecycle

        return await lifecycle.apply(aws, _bucket(settings), settings.recording)

    try:
        found = asyncio.run(_with(work))
    except ValueError as error:
        common.fail(common.USAGE, str(error))
    _print(found, as_json)


def _settings(config: Path | None, profile: str | None) -> Settings:
    settings = common.settings(config, profile)
    if not settings.objects.startswith("s3://"):
        common.fail(common.FAILED, f"objects is {settings.objects}: a folder has no lifecycle rules")
    return settings


def _bucket(settings: Settings) -> str:
    return settings.objects.partition("://")[2]


async def _with(work: Callable[[AwsSession], Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    from gateway.adapters.stores import open_aws

    async with open_aws("this") as session:
        return await work(session)


def _print(rules: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rules, indent=2, default=str))
        return
    for rule in rules:
        moves = [
            f"after {t.get('Days', t.get('Date'))} days to {t['StorageClass']}" for t in rule.get("Transitions", ())
        ]
        if "Expiration" in rule:
            moves.append(f"deleted after {rule['Expiration'].get('Days', '?')} days")
        if "AbortIncompleteMultipartUpload" in rule:
            days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            moves.append(f"unfinished uploads are removed after {days} days")
        words = ", ".join(moves) or "something else"
        typer.echo(common.plain(f"{rule.get('ID', '-'):<28}  {rule.get('Status', ''):<8}  {words}"))
    if not rules:
        typer.echo("no lifecycle rules")
