"""`millrace sign` and `millrace verify`: stream keys without a store."""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import common

if TYPE_CHECKING:
    from gateway.channels.stream_key import Algorithm, SigningSecrets


class KeyUse(StrEnum):
    push = "push"
    play = "play"


class Hash(StrEnum):
    hmac_sha256 = "hmac-sha256"
    md5 = "md5"


IdOption = Annotated[str, typer.Option("--id", help="The channel.")]
ForOption = Annotated[KeyUse, typer.Option("--for", help="What the key opens; neither opens the other.")]
SecretOption = Annotated[
    str | None, typer.Option("--secret", help="Instead of the configured secret. Others on this machine may see it.")
]


def sign(
    id: IdOption,
    expires: Annotated[
        str,
        typer.Option(
            "--expires", metavar="EPOCH|ISO", help="Until when: seconds since 1970, a date (00:00 UTC) or a time."
        ),
    ],
    use: ForOption = KeyUse.push,
    algorithm: Annotated[Hash | None, typer.Option("--algorithm", help="Instead of signing.algorithm.")] = None,
    secret: SecretOption = None,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Print a stream key, <expiry>-<hash>, and nothing else.

    A push is accepted only with the key that the channel has stored: this makes play signs, and keys for channels that
    other programs store. `millrace channel sign` stores it.
    """
    from gateway.channels.stream_key import Algorithm, SignatureUse
    from gateway.channels.stream_key import sign as make

    if not id:
        common.fail(common.USAGE, "--id: expected the id of a channel")
    until = expiry(expires)
    secrets = _secrets(secret, Algorithm(algorithm.value) if algorithm else None, config, profile)
    typer.echo(make(id, until, secrets.current, secrets.algorithm, SignatureUse(use.value)))


def verify(
    id: IdOption,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="<expiry>-<hash>, what follows ?sign= in an address.")
    ],
    use: ForOption = KeyUse.push,
    secret: SecretOption = None,
    config: common.ConfigOption = None,
    profile: common.ProfileOption = None,
) -> None:
    """Say whether a stream key is valid, expired or wrong; exit 0 where it is valid, else 1.

    The signature is judged, not whether the channel exists and has just this key stored.
    """
    from gateway.channels.stream_key import SignatureUse, Verdict

    verdict = _secrets(secret, None, config, profile).verify(id, key, time.time(), SignatureUse(use.value))
    typer.echo(Verdict.WRONG if verdict is Verdict.MISSING else verdict)
    if verdict is not Verdict.VALID:
        raise typer.Exit(common.FAILED)


def expiry(text: str) -> int:
    """Parses an expiry and returns seconds since the epoch. Exits with a usage error where it is invalid."""
    from gateway.channels.expiry import parse_outdate
    from gateway.ports.errors import InvalidField

    try:
        return parse_outdate(text)
    except InvalidField as e:
        common.fail(common.USAGE, f"--expires {common.plain(text)}: {e.message}")


def _secrets(
    secret: str | None, algorithm: Algorithm | None, config: common.ConfigOption, profile: str | None
) -> SigningSecrets:
    from dataclasses import replace

    from gateway.channels.stream_key import Algorithm, SigningSecrets

    settings = common.settings(config, profile)
    if secret == "":
        common.fail(common.USAGE, "--secret: an empty secret protects nothing")
    if secret is not None:
        secrets = SigningSecrets(secret, algorithm=Algorithm(settings.signing.algorithm))
    else:
        from gateway.adapters.local.credentials import signing_secret
        from gateway.adapters.secret_resolver import resolved

        secrets = signing_secret(asyncio.run(resolved(settings)))
    return replace(secrets, algorithm=algorithm) if algorithm else secrets
