"""`millrace sign` and `millrace verify`: make and check stream keys without using a store."""

import asyncio
import time
from dataclasses import replace
from typing import Annotated

import typer

from gateway.channels.names import channel_of
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
    key: Annotated[
        str,
        typer.Option("--key", metavar="KEY", help="<expiry>-<hash>, <id>?sign=…, or the whole address of an encoder."),
    ],
    id: Annotated[str | None, typer.Option("--id", help="The channel; by default that of the key.")] = None,
    use: ForOption = SignatureUse.PUSH,
    secret: SecretOption = None,
) -> None:
    """Print whether a stream key is valid, expired or wrong. The exit code is 0 if it is valid, else 1.

    This checks the signature only. The channel need not exist or have this key stored.
    """
    named, found = _parts(key.strip())
    id = id or named
    if not id:
        common.fail(common.USAGE, "--key names no channel: give --id too")
    verdict = _secrets(secret, None, sources).verify(id, found, time.time(), use)
    if named and named != id:
        verdict = Verdict.WRONG
        typer.echo(common.plain(f"millrace: the key is of the channel {named}, not of {id}"), err=True)
    typer.echo(Verdict.WRONG if verdict is Verdict.MISSING else verdict)
    if verdict is not Verdict.VALID:
        raise typer.Exit(common.FAILED)


def _parts(text: str) -> tuple[str, str]:
    """Returns the channel and the key of a text in one of the forms that encoders have. A missing part is empty."""
    from urllib.parse import parse_qs, unquote, urlsplit

    from gateway.protocols.srt.stream_id import parse_stream_id

    scheme, is_address, rest = text.partition("://")
    # SRT, the address of the broadcaster's page, or no address.
    stream_id = unquote(rest.partition("streamid=" if scheme.startswith("srt") else "#")[2] if is_address else text)
    try:
        if "sign=" in stream_id:
            asked = parse_stream_id(stream_id)
            return channel_of(asked.name), asked.query.get("sign", "")
        if not is_address:
            return "", text
        split = urlsplit(text)
        # The name may follow the key: rtmp://host/stream?sign=<key>/<id>. Addresses of players name files.
        key, _, name = "".join(parse_qs(split.query).get("sign", ())[:1]).partition("/")
        path = split.path.removesuffix("/whip")
        is_file = scheme.startswith("http") and path == split.path
        return name or ("" if is_file else path.rpartition("/")[2]), key
    except ValueError:
        return "", text


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
