"""Players of HLS that count the pictures of `bench.harness.numbered` in the segments."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

from bench.harness.numbered import dropped, numbers
from tests.support.http import Wire


@dataclass
class HlsPlayer:
    """Reads the TS playlist of a stream once a second, and each new segment.

    target: as of a viewer (`crowd.viewer`); its path is that of the channel.
    """

    target: dict[str, Any]
    tls: ssl.SSLContext | None = None
    requests: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    backward: int = 0  # playlists whose first number was smaller than before
    pictures: set[int] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)
    _first: int = 0

    async def run(self) -> None:
        while True:
            try:
                await self._play()
            except (OSError, EOFError, TimeoutError) as error:
                self.failed.append((time.monotonic(), f"connection: {error!r}"))
                await asyncio.sleep(0.5)

    async def _play(self) -> None:
        """Plays over one connection, until it ends."""
        name = self.target["name"] if self.tls else None
        reader, writer = await asyncio.open_connection(
            self.target["host"], self.target["port"], ssl=self.tls, server_hostname=name
        )
        client = Wire(reader, writer)
        try:
            while True:
                began = time.monotonic()
                await self._turn(client)
                await asyncio.sleep(max(0.0, began + 1 - time.monotonic()))
        finally:
            await dropped(writer)

    async def _turn(self, client: Wire) -> None:
        playlist = await self._get(client, "live.m3u8")
        if playlist is None:
            return
        found = re.search(rb"#EXT-X-MEDIA-SEQUENCE:(\d+)", playlist)
        first = int(found[1]) if found else 0
        self.backward += first < self._first
        self._first = first
        for name in (line for line in playlist.decode().splitlines() if line and not line.startswith("#")):
            if name not in self._known and (segment := await self._get(client, name)) is not None:
                self._known.add(name)
                self.pictures |= numbers(_payloads(segment))

    async def _get(self, client: Wire, name: str) -> bytes | None:
        answer = await client.get(f"{self.target['path']}/{name}")
        self.requests += 1
        if answer.status != 200:
            self.failed.append((time.monotonic(), f"{answer.status} {name}"))
            return None
        return bytes(answer.body)

    @property
    def missing(self) -> int:
        return max(self.pictures) - min(self.pictures) + 1 - len(self.pictures) if self.pictures else 0


def _payloads(segment: bytes) -> bytes:
    """The payloads of all packets of a TS segment with one track."""
    parts = []
    for at in range(0, len(segment), 188):
        control = segment[at + 3] >> 4 & 3
        if control & 1:
            start = 4 if control == 1 else 5 + segment[at + 4]
            parts.append(segment[at + start : at + 188])
    return b"".join(parts)


def report(players: list[HlsPlayer], since: float) -> dict[str, Any]:
    """Returns the counts of all players. since: the beginning of the times of failures, monotonic seconds."""
    failed = sorted(failure for player in players for failure in player.failed)
    return {
        "players": len(players),
        "requests": sum(player.requests for player in players),
        "failed": len(failed),
        "failures": [[round(at - since, 2), what] for at, what in failed][:20],
        "backward": sum(player.backward for player in players),
        "pictures": sum(len(player.pictures) for player in players),
        "missing": sum(player.missing for player in players),
    }
