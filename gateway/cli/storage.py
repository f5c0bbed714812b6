"""`millrace storage …`: shows and sets the lifecycle rules of the bucket for recordings."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.adapters.aws.session import AwsSession
    from gateway.settings import Settings

app = typer.Typer(
    help="Show and set the lifecycle rules of a bucket. It is that of `objects`, and needs AWS credentials.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@dataclass(frozen=True, slots=True)
class _CommandContext:
    """The objects that a command uses."""

    aws: AwsSession
    bucket: str
    settings: Settings


@asynccontextmanager
async def _open_context(sources: common.Sources) -> AsyncIterator[_CommandContext]:
    from gateway.adapters.stores import open_aws

    settings = sources.settings()
    if not settings.objects.startswith("s3://"):
        common.fail(common.FAILED, f"objects is {settings.objects}: a folder has no lifecycle rules")
    async with open_aws("this", settings.s3, settings.tls.ca) as session:
        yield _CommandContext(session, settings.objects.removeprefix("s3://"), settings)


_command = functools.partial(common.command_within, _open_context, app)


@_command()
async def show(context: _CommandContext, as_json: common.JsonOption = False) -> None:
    """Print the bucket's lifecycle rules."""
    from gateway.adapters.aws import lifecycle

    _print(await lifecycle.show(context.aws, context.bucket), as_json)


@_command()
async def apply(context: _CommandContext, as_json: common.JsonOption = False) -> None:
    """Write the rules of the section [recording]. Rules with other names are kept."""
    from gateway.adapters.aws import lifecycle

    try:
        rules = await lifecycle.apply(context.aws, context.bucket, context.settings.recording)
    except ValueError as error:
        common.fail(common.USAGE, str(error))
    _print(rules, as_json)


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
