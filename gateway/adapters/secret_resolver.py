"""Reads the secrets for which the settings have references (SSM, Secrets Manager, a file), at start and regularly."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import structlog
from pydantic import SecretStr

from gateway.adapters.local.credentials import FileSecrets, TokenVerifier
from gateway.adapters.stores import open_aws
from gateway.channels.stream_key import SigningSecrets
from gateway.lib.backoff import Backoff
from gateway.ports.cluster_secret import ClusterSecret
from gateway.ports.errors import GatewayError, StoreUnavailable, StoreUnusable
from gateway.ports.stores import SecretStore, SecretValue
from gateway.settings import Settings, short_secrets
from gateway.settings.layers import REFERENCE_OPTIONS
from gateway.settings.option_types import MIN_SECRET_LENGTH, REFERENCES, is_short

log = structlog.get_logger(__name__)

SIGNING, PREVIOUS, TOKEN, CLUSTER = "signing.secret", "signing.previous_secret", "admin.token", "cluster.secret"
_MAX_ATTEMPTS: Final = 4  # at start


@dataclass(frozen=True, slots=True)
class _Reference:
    option: str
    kind: str  # ssm, secretsmanager or file
    name: str


class SecretResolver:
    """Reads the options that are references. Use it as `async with`. Inside, `settings` contains the secrets.

    `run` reads them again every `signing.refresh` seconds. If a read fails, the last value stays in use. AWS is loaded
    only if a reference needs it. Entering raises StoreUnusable, also if a secret is too short. It raises
    StoreUnavailable after four attempts.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._configured = settings
        self._clock = clock
        self._references = tuple(_references(settings))
        self._stores: dict[str, SecretStore] = {}
        self._stack = contextlib.AsyncExitStack()
        self._values: dict[str, SecretValue] = {}
        self._failing: set[str] = set()
        self._short: set[str] = set()  # options whose previous value is too short; each is logged once
        self._json: set[str] = set()  # options whose value is JSON; likewise
        self.settings = settings
        self.cluster = ClusterSecret(settings.cluster.secret.get_secret_value())
        self._signing: SigningSecrets | None = None
        self._token: TokenVerifier | None = None

    async def __aenter__(self) -> Self:
        try:
            if self._references:
                await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def follow(self, signing: SigningSecrets, token: TokenVerifier) -> None:
        """Sets the two objects that get new values, by their `rotate`, when a secret is replaced."""
        self._signing, self._token = signing, token

    async def run(self) -> None:
        """Runs until cancelled. Returns at once if there is nothing to read regularly."""
        seconds = self._configured.signing.refresh
        if not self._references or not seconds:
            return
        while True:
            await asyncio.sleep(seconds)
            await self.refresh()

    async def refresh(self) -> None:
        """Reads every reference once. Logs a failure once, and keeps the last value."""
        for reference in self._references:
            try:
                self._put(reference, await self._read(reference))
            except GatewayError as error:
                if reference.option not in self._failing:
                    self._failing.add(reference.option)
                    log.warning("a secret cannot be read now", option=reference.option, reason=str(error))
            else:
                if reference.option in self._failing:
                    self._failing.discard(reference.option)
                    log.info("a secret can be read again", option=reference.option)
        self._apply()

    # ---- reading ----

    async def _open(self) -> None:
        if any(reference.kind != "file" for reference in self._references):
            session = await self._stack.enter_async_context(open_aws("a secret"))
            from gateway.adapters.aws.secret_stores import ManagedSecrets, SsmSecrets

            self._stores |= {"ssm": SsmSecrets(session), "secretsmanager": ManagedSecrets(session)}
        self._stores["file"] = FileSecrets()
        for reference in self._references:
            self._put(reference, await self._read_first(reference))
        secrets = {name: value.current for name, value in self._values.items()}
        secrets[PREVIOUS] = self._previous_signing(self._values.get(SIGNING))
        self.settings = _with(self._configured, secrets)
        self._apply()

    async def _read_first(self, reference: _Reference) -> SecretValue:
        backoff = Backoff(1, 4)
        for remaining in reversed(range(_MAX_ATTEMPTS)):
            try:
                return await self._read(reference)
            except StoreUnavailable as error:
                if not remaining:
                    raise StoreUnavailable(f"{reference.option}: {error}", error.retry_after) from None
                log.warning("a secret cannot be read yet", option=reference.option, reason=str(error))
                await asyncio.sleep(backoff.next())
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, reference: _Reference) -> SecretValue:
        value = await self._stores[reference.kind].read(reference.name)
        if value.current.startswith("{") and reference.option not in self._json:
            # The console of AWS stores a secret with a key of its own, unless one chooses plain text there.
            self._json.add(reference.option)
            log.warning("a secret is JSON: all of its text is the secret, keys included", option=reference.option)
        if is_short(value.current):
            raise StoreUnusable(f"{reference.option}: {reference.name} holds fewer than {MIN_SECRET_LENGTH} characters")
        if value.previous and is_short(value.previous):
            # The previous value may be a placeholder from before a real secret was set. The start continues, but the
            # value is never accepted.
            if reference.option not in self._short:
                self._short.add(reference.option)
                log.warning("the previous secret is too short: it is not accepted", option=reference.option)
            return SecretValue(value.current, "", value.modified)
        return value

    def _put(self, reference: _Reference, value: SecretValue) -> None:
        """Remembers a value. If the store has no previous value, uses the value of an earlier read."""
        known = self._values.get(reference.option)
        if known is not None and not value.previous:
            previous = known.current if known.current != value.current else known.previous
            value = SecretValue(value.current, previous, value.modified)
        if known is not None and known.current != value.current:
            log.info("a secret was replaced", option=reference.option)
        self._values[reference.option] = value

    # ---- applying ----

    def _apply(self) -> None:
        signing = self._values.get(SIGNING)
        if self._signing is not None and (signing is not None or PREVIOUS in self._values):
            current = signing.current if signing is not None else self._signing.current
            self._signing.rotate(current, self._previous_signing(signing))
        token = self._values.get(TOKEN)
        if self._token is not None and token is not None and not self._token.verify(token.current):
            self._token.rotate(token.current)
        if (cluster := self._values.get(CLUSTER)) is not None:
            # After two times `refresh`, all nodes have read the secret, even if their clocks differ by one `refresh`.
            known_by_all = self._clock() - cluster.modified > 2 * self._configured.signing.refresh
            self.cluster.rotate(cluster.current, cluster.previous, known_by_all=known_by_all)

    def _previous_signing(self, signing: SecretValue | None) -> str:
        """Returns the previous signing secret. The settings override the store."""
        if (previous := self._values.get(PREVIOUS)) is not None:
            return previous.current
        configured = self._configured.signing.previous_secret.get_secret_value()
        return configured or (signing.previous if signing is not None else "")


async def resolve_secrets(settings: Settings) -> Settings:
    """Returns the settings with secrets in place of references, for a command. Raises like SecretResolver."""
    async with SecretResolver(settings) as resolver:
        return resolver.settings


def warn_of_short_secrets(settings: Settings) -> None:
    """Logs one warning for each configured secret that is too short to be safe."""
    for option in short_secrets(settings):
        log.warning(f"the secret has fewer than {MIN_SECRET_LENGTH} characters: it can be guessed", option=option)


def _references(settings: Settings) -> list[_Reference]:
    references = []
    for option in REFERENCE_OPTIONS:
        section, _, name = option.partition(".")
        text = getattr(getattr(settings, section), name).get_secret_value()
        if text.startswith(REFERENCES):
            kind, _, secret_name = text.partition(":")
            references.append(_Reference(option, kind, secret_name))
    return references


def _with(settings: Settings, values: Mapping[str, str]) -> Settings:
    """Returns the settings with these secrets replaced. values: by option name, such as "admin.token"."""
    for option, value in values.items():
        section, _, name = option.partition(".")
        changed = getattr(settings, section).model_copy(update={name: SecretStr(value)})
        settings = settings.model_copy(update={section: changed})
    return settings
