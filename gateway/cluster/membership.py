"""Keeps this node in the registry, with a heartbeat that shows that it is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from gateway.ports.errors import StoreUnavailable
from gateway.ports.nodes import Node
from gateway.ports.stores import Registry

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 3.0


class Membership:
    """Joins the registry, sends heartbeats and leaves. `run` does all three.

    now: returns the node as it is to be shown; called at each heartbeat.
    """

    def __init__(self, registry: Registry, now: Callable[[], Node]) -> None:
        self._registry = registry
        self._now = now
        self._beat = 0
        self._away = False

    async def run(self) -> None:
        """Joins and sends heartbeats until it is cancelled, then leaves.

        It tries again if the registry does not answer. Streams do not depend on it.
        """
        joined = False
        try:
            while True:
                self._beat += 1
                node = replace(self._now(), beat=self._beat)
                try:
                    await (self._registry.beat(node) if joined else self._registry.join(node))
                    joined = True
                    if self._away:
                        log.info("the registry answers again", node=node.id)
                    self._away = False
                except StoreUnavailable as away:
                    if not self._away:
                        log.warning("the registry is away: this node is not seen to live", reason=str(away))
                    self._away = True
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            if joined:
                await self._leave()

    async def _leave(self) -> None:
        id = self._now().id
        try:
            async with asyncio.timeout(3):
                await self._registry.leave(id)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("the registry was not told that this node goes", reason=str(error))
