"""`millrace cloudfront sign`: makes CloudFront signed URLs and signed cookies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from gateway.cli import common
from gateway.cli.keys import parse_expiry
from gateway.lib.rfc3339 import rfc3339

if TYPE_CHECKING:
    from gateway.playback.cloudfront_signer import CloudFrontSigner, SigningConditions
    from gateway.settings import Settings

app = typer.Typer(help="Sign playback addresses for CloudFront.", no_args_is_help=True, rich_markup_mode=None)


PolicyKind: TypeAlias = Literal["canned", "custom"]


@app.callback()
def _group() -> None:
    """Makes `sign` a command of its own, although it is the only one."""


@common.command(app)
def sign(
    sources: common.Sources,
    target: Annotated[str, typer.Argument(metavar="URL|ID", help="An address, or a channel.")],
    expires: Annotated[
        str,
        typer.Option(
            "--expires", metavar="EPOCH|ISO", help="The expiry: seconds since 1970, a date (00:00 UTC) or a time."
        ),
    ],
    policy: Annotated[
        PolicyKind, typer.Option("--policy", help="A canned policy is shorter, and for one file only.")
    ] = "custom",
    start: Annotated[
        str | None, typer.Option("--from", metavar="EPOCH|ISO", help="The start time (custom policy).")
    ] = None,
    ip: Annotated[
        str, typer.Option("--ip", metavar="ADDRESS|NETWORK", help="The IPv4 viewers that may play (custom policy).")
    ] = "",
    resource: Annotated[
        str | None,
        typer.Option(
            "--resource",
            metavar="PATTERN",
            help='The addresses that may be played, with "*" for any characters (custom policy). By default the '
            "channel, the folder of a playlist or page, or the file.",
        ),
    ] = None,
    file: Annotated[str, typer.Option("--file", help="The file of the channel.")] = "live.m3u8",
    cookies: Annotated[bool, typer.Option("--cookies", help="Print cookies instead of an address.")] = False,
    key_pair_id: Annotated[
        str, typer.Option("--key-pair-id", help="The id of the public key. Overrides cloudfront.key_pair_id.")
    ] = "",
    private_key: Annotated[
        Path | None, typer.Option("--private-key", metavar="PEM", help="Overrides cloudfront.private_key.")
    ] = None,
    as_json: common.JsonOption = False,
) -> None:
    """Print a signed address. Cookies are printed as name=value, one on each line."""
    from gateway.channels.names import is_channel_id
    from gateway.playback.cloudfront_signer import check_url, resource_of, signed_cookies, signed_url

    settings = sources.settings()
    conditions = _conditions(expires, start, ip, policy)
    if "://" in target:
        url = check_url(target)
        signed_resource = resource_of(url) if conditions.custom else url
    elif is_channel_id(target):
        base = f"{asyncio.run(_pull_address(settings))}/{target}/"
        url = check_url(base + file)
        signed_resource = f"{base}*" if conditions.custom else url
    else:
        common.fail(common.USAGE, f"{common.plain(target)}: expected an address or the id of a channel")
    if resource is not None:
        if not conditions.custom:
            common.fail(common.USAGE, "--resource: a canned policy is for the address itself")
        signed_resource = check_url(resource)
    signer = _signer(settings, key_pair_id, private_key)
    parameters = signer.sign(signed_resource, conditions)
    signed, named_cookies = signed_url(url, parameters), signed_cookies(parameters)
    if as_json:
        common.print_json({"url": signed, "cookies": named_cookies, "expires": rfc3339(conditions.before, "seconds")})
    elif cookies:
        for name, value in named_cookies.items():
            typer.echo(f"{name}={value}")
    else:
        typer.echo(signed)


def _conditions(expires: str, start: str | None, ip: str, policy: PolicyKind) -> SigningConditions:
    from gateway.playback.cloudfront_signer import SigningConditions

    after = parse_expiry(start, "--from") if start is not None else None
    return SigningConditions.of(parse_expiry(expires), after, ip, policy)


async def _pull_address(settings: Settings) -> str:
    """Returns the address of playback: the stored pull domain, `playback.public_url`, or this machine."""
    from gateway.adapters.local.host import known_ports, shown_addresses
    from gateway.adapters.stores import open_stores

    async with open_stores(settings) as stores:
        return shown_addresses(settings, await stores.domains.get_domains(), known_ports(settings)).pull


def _signer(settings: Settings, key_pair_id: str, private_key: Path | None) -> CloudFrontSigner:
    from gateway.adapters.secret_resolver import resolve_secrets
    from gateway.playback.cloudfront_keys import load_private_key
    from gateway.playback.cloudfront_signer import CloudFrontSigner

    key_pair_id = key_pair_id or settings.cloudfront.key_pair_id
    if not key_pair_id:
        common.fail(common.USAGE, "--key-pair-id: the id of the key pair is needed (or set cloudfront.key_pair_id)")
    if private_key is not None:
        pem = private_key.read_text(encoding="ascii", errors="replace")
    else:
        pem = asyncio.run(resolve_secrets(settings)).cloudfront.private_key.get_secret_value()
    if not pem:
        common.fail(common.USAGE, "--private-key: the private key is needed (or set cloudfront.private_key)")
    return CloudFrontSigner(key_pair_id, load_private_key(pem))
