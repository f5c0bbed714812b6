"""Vault: secrets that stand elsewhere (SSM, Secrets Manager, a file), read at start and again while we run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog
from pydantic import SecretStr

from gateway.adapters import open_aws
from gateway.adapters.local.secret_files import FileSecrets
from gateway.adapters.local.secrets import TokenVerifier
from gateway.hub.access import Secrets
from gateway.hub.cluster_secret import ClusterSecret
from gateway.hub.errors import HubError, StoreAway
from gateway.hub.ports import SecretStore, SecretValue
from gateway.lib.backoff import Backoff
from gateway.settings import Settings
from gateway.settings.kinds import REFERENCES

log = structlog.get_logger(__name__)

SIGNING, PREVIOUS, TOKEN, CLUSTER = "signing.secret", "signing.previous_secret", "admin.token", "cluster.secret"
_OPTIONS: Final = (SIGNING, PREVIOUS, TOKEN, CLUSTER)
_TRIES: Final = 4  # at start


@dataclass(frozen=True, slots=True)
class _Reference:
    option: str
    kind: str  # ssm, secretsmanager or file
    name: str


class Vault:
    """Reads the options that are references. Use as `async with`: then `settings` has values in their place.

    `run` reads them again every `signing.refresh` seconds; what could not be read then stays as it was. AWS is loaded
    only where a reference names it. Entering raises StoreUnusable, or StoreAway after a few tries.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._given = settings
        self._clock = clock
        self._references = tuple(_references(settings))
        self._stores: dict[str, SecretStore] = {}
        self._stack = contextlib.AsyncExitStack()
        self._values: dict[str, SecretValue] = {}
        self._failing: set[str] = set()
        self.settings = settings
        self.cluster = ClusterSecret(settings.cluster.secret.get_secret_value())
        self._signing: Secrets | None = None
        self._token: TokenVerifier | None = None

    async def __aenter__(self) -> Self:
        try:
            if self._references:
                await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def follow(self, signing: Secrets, token: TokenVerifier) -> None:
        """These were made of `settings`, and are to change with what is read."""
        self._signing, self._token = signing, token

    async def run(self) -> None:
        """Until cancelled; returns at once where nothing is read again."""
        seconds = self._given.signing.refresh
        if not self._references or not seconds:
            return
        while True:
            await asyncio.sleep(seconds)
            await self.refresh()

    async def refresh(self) -> None:
        """Reads everything once. What fails is told once, and the last value goes on."""
        for reference in self._references:
            try:
                self._put(reference, await self._read(reference))
            except HubError as error:
                if reference.option not in self._failing:
                    self._failing.add(reference.option)
                    log.warning("a secret cannot be read again now", option=reference.option, reason=str(error))
            else:
                if reference.option in self._failing:
                    self._failing.discard(reference.option)
                    log.info("a secret can be read again", option=reference.option)
        self._apply()

    # ---- reading ----

    async def _open(self) -> None:
        if any(reference.kind != "file" for reference in self._references):
            session = await self._stack.enter_async_context(open_aws("a secret"))
            from gateway.adapters.aws.secrets import ManagedSecrets, SsmSecrets

            self._stores |= {"ssm": SsmSecrets(session), "secretsmanager": ManagedSecrets(session)}
        self._stores["file"] = FileSecrets()
        for reference in self._references:
            self._put(reference, await self._first(reference))
        found = {name: value.current for name, value in self._values.items()}
        self.settings = _with(self._given, {**found, PREVIOUS: self._before(self._values.get(SIGNING))})
        self._apply()

    async def _first(self, reference: _Reference) -> SecretValue:
        backoff = Backoff(1, 4)
        for left in reversed(range(_TRIES)):
            try:
                return await self._read(reference)
            except StoreAway as away:
                if not left:
                    raise StoreAway(f"{reference.option}: {away}", away.retry_after) from None
                log.warning("a secret cannot be read yet", option=reference.option, reason=str(away))
                await asyncio.sleep(backoff.next())
        raise AssertionError("the last try returns or raises")

    async def _read(self, reference: _Reference) -> SecretValue:
        return await self._stores[reference.kind].read(reference.name)

    def _put(self, reference: _Reference, value: SecretValue) -> None:
        """Where a store does not tell what a secret was before, what we saw before is that."""
        known = self._values.get(reference.option)
        if known is not None and not value.previous:
            before = known.current if known.current != value.current else known.previous
            value = SecretValue(value.current, before, value.since)
        if known is not None and known.current != value.current:
            log.info("a secret was replaced", option=reference.option)
        self._values[reference.option] = value

    # ---- what follows ----

    def _apply(self) -> None:
        signing = self._values.get(SIGNING)
        if self._signing is not None and (signing is not None or PREVIOUS in self._values):
            current = signing.current if signing is not None else self._signing.current
            self._signing.rotate(current, self._before(signing))
        token = self._values.get(TOKEN)
        if self._token is not None and token is not None and not self._token.verify(token.current):
            self._token.rotate(token.current)
        if (cluster := self._values.get(CLUSTER)) is not None:
            # All nodes have read it again once, and their clocks may differ by as much.
            settled = self._clock() - cluster.since > 2 * self._given.signing.refresh
            self.cluster.rotate(cluster.current, cluster.previous, settled=settled)

    def _before(self, signing: SecretValue | None) -> str:
        """The signing secret before the present one: what is set wins over what the store tells."""
        if (previous := self._values.get(PREVIOUS)) is not None:
            return previous.current
        given = self._given.signing.previous_secret.get_secret_value()
        return given or (signing.previous if signing is not None else "")


async def resolved(settings: Settings) -> Settings:
    """The settings with values in place of references, for a command. Raises as entering a Vault does."""
    async with Vault(settings) as vault:
        return vault.settings


def _references(settings: Settings) -> list[_Reference]:
    found = []
    for option in _OPTIONS:
        section, _, name = option.partition(".")
        text = getattr(getattr(settings, section), name).get_secret_value()
        if text.startswith(REFERENCES):
            kind, _, where = text.partition(":")
            found.append(_Reference(option, kind, where))
    return found


def _with(settings: Settings, values: Mapping[str, str]) -> Settings:
    """The settings with other secrets."""
    for option, value in values.items():
        section, _, name = option.partition(".")
        changed = getattr(settings, section).model_copy(update={name: SecretStr(value)})
        settings = settings.model_copy(update={section: changed})
    return settings
