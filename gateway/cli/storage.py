"""`millrace storage …`: shows and sets the lifecycle rules of the bucket for recordings."""

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
    _, bucket = _settings_and_bucket(config, profile)

    async def run_command(aws: AwsSession) -> list[dict[str, Any]]:
        from gateway.adapters.aws import lifecycle

        return await lifecycle.show(aws, bucket)

    _print(asyncio.run(_run(run_command)), as_json)


@app.command()
def apply(
    as_json: common.JsonOption = False, config: common.ConfigOption = None, profile: common.ProfileOption = None
) -> None:
    """Write the rules of the section [recording]. Rules with other names are kept."""
    settings, bucket = _settings_and_bucket(config, profile)

    async def run_command(aws: AwsSession) -> list[dict[str, Any]]:
        from gateway.adapters.aws import lifecycle

        return await lifecycle.apply(aws, bucket, settings.recording)

    try:
        rules = asyncio.run(_run(run_command))
    except ValueError as error:
        common.fail(common.USAGE, str(error))
    _print(rules, as_json)


def _settings_and_bucket(config: Path | None, profile: str | None) -> tuple[Settings, str]:
    settings = common.settings(config, profile)
    if not settings.objects.startswith("s3://"):
        common.fail(common.FAILED, f"objects is {settings.objects}: a folder has no lifecycle rules")
    return settings, settings.objects.removeprefix("s3://")


async def _run(command: Callable[[AwsSession], Awaitable[list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    from gateway.adapters.stores import open_aws

    async with open_aws("this") as session:
        return await command(session)


def _print(rules: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rules, indent=2, default=str))
        return
    for rule in rules:
        actions = [
            f"after {t.get('Days', t.get('Date'))} days to {t['StorageClass']}" for t in rule.get("Transitions", ())
        ]
        if "Expiration" in rule:
            actions.append(f"deleted after {rule['Expiration'].get('Days', '?')} days")
        if "AbortIncompleteMultipartUpload" in rule:
            days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            actions.append(f"unfinished uploads are removed after {days} days")
        text = ", ".join(actions) or "other actions"
        typer.echo(common.plain(f"{rule.get('ID', '-'):<28}  {rule.get('Status', ''):<8}  {text}"))
    if not rules:
        typer.echo("no lifecycle rules")
