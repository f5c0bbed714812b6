"""Pushes of the original browser client, to targets that it names itself and that the operator allows."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gateway.channels import relay_urls
from gateway.channels.channel import Channel
from gateway.ingest.websocket.push_destination import CloseReason
from gateway.live.hub import Hub, StreamLimits
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.outputs.relay.relay_output import RelayFactory, RelayOutput
from gateway.outputs.relay.relay_target import TargetState
from gateway.ports.events import Events
from gateway.protocols.push import CloseCode
from gateway.protocols.rtmp.url import StreamTarget, parse_url, resolve

TARGET_TIMEOUT: Final = 30.0  # the push ends when its target has not accepted the stream for this many seconds
FINISH_SECONDS: Final = 5.0
_APP: Final = "stream"
_FAR: Final = "9999-12-31"  # these pushes have no key that could expire
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class CompatibleTargets:
    """The allowed targets, and the streams that go there, in a hub of their own that cannot be played.

    allowed: hosts, optionally with `*.` in front, and beginnings of addresses (`ws.compatible`).
    The egress policy applies too.
    """

    def __init__(
        self,
        allowed: Iterable[str],
        outputs: RelayFactory,
        limits: StreamLimits,
        own_ports: Callable[[], frozenset[int]],
    ) -> None:
        """own_ports: the ports at which this gateway itself accepts RTMP(S)."""
        self._allowed = tuple(allowed)
        self._own_ports = own_ports
        self.hub = Hub(limits, (OutputSpec("relay", outputs.make, lambda stream: True),), Events())

    def allows(self, target: str) -> bool:
        """Whether the target is an RTMP(S) address that the operator has listed."""
        if not relay_urls.is_target(target) or relay_urls.is_ivs_channel(target):
            return False
        parts = urlsplit(target)
        host = (parts.hostname or "").rstrip(".")
        # A path that leaves the listed beginning is not below it.
        if parts.username is not None or any(part in (".", "..") for part in unquote(parts.path).split("/")):
            return False
        return any(_covers(entry, target, host) for entry in self._allowed)

    def own(self, target: str, host: str) -> StreamTarget | None:
        """Returns the stream of this gateway that the target names; None if it is another server.

        host: this gateway's host name as the client wrote it.
        """
        try:
            url = parse_url(target)
        except ValueError:
            return None
        if url.port not in self._own_ports() or url.host.lower() not in _LOCAL | {host.lower()}:
            return None
        named = resolve(url.app, url.tc_url, url.name)
        return named if named.app == _APP else None

    async def run(self) -> None:
        """Runs the hub until cancelled."""
        await self.hub.run()

    async def finish(self) -> None:
        """Accepts no more publishers, and waits until the present streams have reached their targets."""
        self.hub.drain()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self.hub.drained()
        except TimeoutError:
            return  # the targets report what they did not accept


class RelayDestination:
    """A stream of its own, which is relayed to one target; it ends if the target does not accept it."""

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
        return str(relay_urls.masked([self._target])[0])

    async def publisher(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        id = f"compatible-{uuid.uuid4().hex[:16]}"
        channel = Channel({"id": id, "key": "", "outdate": _FAR, "isRelay": True, "relayURL": [self._target]})
        publisher = self._hub.publish(channel, id, protocol=self._protocol, peer=self._address, evict=evict)
        self._stream = publisher.stream
        self._taken = time.monotonic()
        return publisher

    def look(self, now: float) -> CloseReason | None:
        outputs = self._stream.outputs if self._stream is not None else None
        output = outputs.get("relay") if outputs is not None else None
        report: dict[str, Any] = output.report() if isinstance(output, RelayOutput) else {}
        target: dict[str, Any] = next(iter(report.get("targets", ())), {})
        self.trouble = str(target.get("error") or "")
        if target.get("state") == TargetState.LIVE:
            self._taken = now
        elif target.get("state") == TargetState.FAILED:
            return CloseReason(CloseCode.POLICY, self.trouble or "the target cannot be used")
        elif now - self._taken > TARGET_TIMEOUT:
            return CloseReason(CloseCode.TRY_LATER, self.trouble or "the target does not take the stream")
        return None


def _covers(entry: str, target: str, host: str) -> bool:
    if "://" in entry:
        # Scheme and host ignore case, the rest does not; a beginning must end where a part of the path ends.
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
