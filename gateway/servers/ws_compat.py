"""The original browser client's pushes: to targets that it names itself, of those that the operator allows."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gateway.hub import relays
from gateway.hub.channel import Channel
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.output import OutputSpec
from gateway.hub.publisher import Publisher
from gateway.hub.stream import EndReason, Stream
from gateway.protocols.push import CloseCode
from gateway.protocols.rtmp.url import Target, parse_url, resolve
from gateway.servers.ws_entry import Ending
from gateway.sinks.relay import RelayOutput, Relays
from gateway.sinks.relay_target import TargetState

PATIENCE: Final = 30.0  # seconds that a target may not take the stream, then the push ends
FINISH_SECONDS: Final = 5.0
_APP: Final = "stream"
_FAR: Final = "9999-12-31"  # no key stands behind these pushes that could expire
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Compatible:
    """Targets that may be named, and the streams that go there: of a hub of their own, which nobody can play.

    allowed: hosts, perhaps `*.` before, and beginnings of addresses (`ws.compatible`). What the egress policy says
    holds besides.
    """

    def __init__(
        self, allowed: Iterable[str], outputs: Relays, limits: StreamLimits, own_ports: Callable[[], frozenset[int]]
    ) -> None:
        """own_ports: where this gateway takes RTMP(S) itself."""
        self._allowed = tuple(allowed)
        self._own_ports = own_ports
        self.hub = Hub(limits, (OutputSpec("relay", outputs.make, lambda stream: True),), Events())

    def allows(self, target: str) -> bool:
        """Whether the target is an RTMP(S) address that the operator has listed."""
        if not relays.is_target(target) or relays.is_ivs_channel(target):
            return False
        parts = urlsplit(target)
        host = (parts.hostname or "").rstrip(".")
        # What climbs out of a listed beginning is not below it.
        if parts.username is not None or any(part in (".", "..") for part in unquote(parts.path).split("/")):
            return False
        return any(_covers(entry, target, host) for entry in self._allowed)

    def own(self, target: str, host: str) -> Target | None:
        """What of this very gateway the target names; None where it is another server. host: as the client calls us."""
        try:
            url = parse_url(target)
        except ValueError:
            return None
        if url.port not in self._own_ports() or url.host.lower() not in _LOCAL | {host.lower()}:
            return None
        named = resolve(url.app, url.tc_url, url.name)
        return named if named.app == _APP else None

    async def run(self) -> None:
        """Until cancelled."""
        await self.hub.run()

    async def finish(self) -> None:
        """Nobody more; what is there gets to its targets."""
        self.hub.drain()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self.hub.drained()
        except TimeoutError:
            return  # the targets say themselves what they did not take


class TargetEntry:
    """Into a stream of its own, which is relayed to one target; it ends where that does not take it."""

    def __init__(self, hub: Hub, target: str, *, address: str, protocol: str) -> None:
        self._hub = hub
        self._target = target
        self._address = address
        self._protocol = protocol
        self._stream: Stream | None = None
        self._taken = time.monotonic()
        self.trouble = ""

    @property
    def name(self) -> str:
        return str(relays.masked([self._target])[0])

    async def publisher(self, evict: Callable[[EndReason], None]) -> Publisher:
        id = f"compatible-{uuid.uuid4().hex[:16]}"
        channel = Channel({"id": id, "key": "", "outdate": _FAR, "isRelay": True, "relayURL": [self._target]})
        publisher = self._hub.publish(channel, id, protocol=self._protocol, peer=self._address, evict=evict)
        self._stream = publisher.stream
        self._taken = time.monotonic()
        return publisher

    def look(self, now: float) -> Ending | None:
        outputs = self._stream.outputs if self._stream is not None else None
        output = outputs.get("relay") if outputs is not None else None
        report: dict[str, Any] = output.report() if isinstance(output, RelayOutput) else {}
        target: dict[str, Any] = next(iter(report.get("targets", ())), {})
        self.trouble = str(target.get("error") or "")
        if target.get("state") == TargetState.LIVE:
            self._taken = now
        elif target.get("state") == TargetState.FAILED:
            return Ending(CloseCode.POLICY, self.trouble or "the target cannot be used")
        elif now - self._taken > PATIENCE:
            return Ending(CloseCode.TRY_LATER, self.trouble or "the target does not take the stream")
        return None


def _covers(entry: str, target: str, host: str) -> bool:
    if "://" in entry:
        # Scheme and host in any case, the rest to the letter; a beginning ends where a part of the path does.
        scheme, _, rest = entry.partition("://")
        place, slash, path = rest.partition("/")
        beginning = f"{scheme.lower()}://{place.lower()}{slash}{path}"
        given, _, rest = target.partition("://")
        place, slash, path = rest.partition("/")
        whole = f"{given.lower()}://{place.lower()}{slash}{path}"
        return whole.startswith(beginning) and (
            beginning.endswith("/") or whole[len(beginning) :][:1] in ("", "/", "?")
        )
    entry = entry.lower().rstrip(".")
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
