"""Membership: this node in the registry, with a beat that says it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from gateway.hub.errors import StoreAway
from gateway.hub.nodes import Node
from gateway.hub.ports import Registry

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 3.0


class Membership:
    """`run` joins, beats and, when it is cancelled, leaves. now: the node as it is to be shown, asked at each beat."""

    def __init__(self, registry: Registry, now: Callable[[], Node]) -> None:
        self._registry = registry
        self._now = now
        self._beat = 0
        self._away = False

    async def run(self) -> None:
        """Until cancelled. A registry that is away is tried again; streams do not depend on it."""
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
                except StoreAway as away:
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
        except (StoreAway, TimeoutError) as error:
            log.warning("the registry was not told that this node goes", reason=str(error))
