"""`millrace sign` and `millrace verify`: make and check stream keys without using a store."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated

import typer

from gateway.channels.stream_key import Algorithm, SignatureUse, SigningSecrets, Verdict
from gateway.channels.stream_key import sign as make_key
from gateway.cli import common

IdOption = Annotated[str, typer.Option("--id", help="The channel.")]
ForOption = Annotated[SignatureUse, typer.Option("--for", help="The use of the key. A push key cannot play.")]
SecretOption = Annotated[
    str | None,
    typer.Option("--secret", help="Overrides the configured secret. Other users of this machine can see it."),
]


def sign(
    sources: common.Sources,
    id: IdOption,
    expires: Annotated[
        str,
        typer.Option(
            "--expires", metavar="EPOCH|ISO", help="The expiry: seconds since 1970, a date (00:00 UTC) or a time."
        ),
    ],
    use: ForOption = SignatureUse.PUSH,
    algorithm: Annotated[Algorithm | None, typer.Option("--algorithm", help="Overrides signing.algorithm.")] = None,
    secret: SecretOption = None,
) -> None:
    """Print only the stream key, <expiry>-<hash>.

    A push needs the stored key of the channel; `millrace channel sign` stores one. Use this command for play
    signatures, or if another program stores the keys.
    """
    if not id:
        common.fail(common.USAGE, "--id: expected the id of a channel")
    expires_at = parse_expiry(expires)
    secrets = _secrets(secret, algorithm, sources)
    typer.echo(make_key(id, expires_at, secrets.current, secrets.algorithm, use))


def verify(
    sources: common.Sources,
    id: IdOption,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="<expiry>-<hash>: the value of ?sign= in an address.")
    ],
    use: ForOption = SignatureUse.PUSH,
    secret: SecretOption = None,
) -> None:
    """Print whether a stream key is valid, expired or wrong. The exit code is 0 if it is valid, else 1.

    This checks the signature only. The channel need not exist or have this key stored.
    """
    verdict = _secrets(secret, None, sources).verify(id, key, time.time(), use)
    typer.echo(Verdict.WRONG if verdict is Verdict.MISSING else verdict)
    if verdict is not Verdict.VALID:
        raise typer.Exit(common.FAILED)


def parse_expiry(text: str, option: str = "--expires") -> int:
    """Parses the time of an option to seconds since 1970. Exits with a usage error if it is invalid."""
    from gateway.channels.expiry import parse_outdate
    from gateway.ports.errors import InvalidField

    try:
        return parse_outdate(text)
    except InvalidField as e:
        common.fail(common.USAGE, f"{option} {common.plain(text)}: {e.message}")


def _secrets(secret: str | None, algorithm: Algorithm | None, sources: common.Sources) -> SigningSecrets:
    settings = sources.settings()
    if secret == "":
        common.fail(common.USAGE, "--secret: the secret is empty")
    if secret is not None:
        secrets = SigningSecrets(secret, algorithm=Algorithm(settings.signing.algorithm))
    else:
        from gateway.adapters.local.credentials import signing_secret
        from gateway.adapters.secret_resolver import resolve_secrets

        secrets = signing_secret(asyncio.run(resolve_secrets(settings)))
    return replace(secrets, algorithm=algorithm) if algorithm else secrets
