"""Pushes of the old system's browser client. The client names the target, and the operator has to allow it."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gateway.channels import relay_urls
from gateway.channels.addresses import APP, OpenPorts
from gateway.channels.channel import Channel
from gateway.channels.expiry import NEVER_DATE
from gateway.ingest.websocket.push_messages import CloseReason
from gateway.live.output import OutputSpec
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.stream import Stream
from gateway.outputs.relay.relay_output import RelayFactory, RelayOutput
from gateway.outputs.relay.relay_target import TargetState
from gateway.protocols.push import CloseCode
from gateway.protocols.rtmp.url import StreamTarget, parse_url, resolve

TARGET_TIMEOUT: Final = 30.0  # seconds without acceptance by the target after which the push ends
FINISH_SECONDS: Final = 5.0
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class CompatibleTargets:
    """The allowed targets, and a shelf for the streams to them. These streams cannot be played.

    allowed: hosts, optionally after `*.`, and prefixes of addresses (`ws.compatible`). The egress policy applies too.

    ports: returns the ports of this gateway, by name.
    """

    def __init__(
        self, allowed: Iterable[str], outputs: RelayFactory, limits: StreamLimits, ports: Callable[[], OpenPorts]
    ) -> None:
        self._allowed = tuple(allowed)
        self._ports = ports
        self.shelf = StreamShelf(limits, (OutputSpec("relay", outputs.make, lambda stream: True),))

    def allows(self, target: str) -> bool:
        """Whether the target is an RTMP(S) address that the operator has listed."""
        if not relay_urls.is_rtmp(target):
            return False
        parts = urlsplit(target)
        host = (parts.hostname or "").rstrip(".")
        # Dot segments could leave the listed prefix.
        if parts.username is not None or any(part in (".", "..") for part in unquote(parts.path).split("/")):
            return False
        return any(_covers(entry, target, host) for entry in self._allowed)

    def local_stream(self, target: str, host: str) -> StreamTarget | None:
        """Returns the stream if the target is at this gateway; None if it is at another server.

        host: this gateway's host name in the client's request.
        """
        try:
            url = parse_url(target)
        except ValueError:
            return None
        ports = self._ports()
        if url.port not in (ports["rtmp"], ports["rtmps"]) or url.host.lower() not in _LOCAL | {host.lower()}:
            return None
        stream = resolve(url.app, url.tc_url, url.name)
        return stream if stream.app == APP else None

    async def finish(self) -> None:
        """Accepts no more publishers, and waits until the targets have the current streams, at most FINISH_SECONDS."""
        self.shelf.drain()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self.shelf.drained()
        except TimeoutError:
            return  # the targets' outputs report the lost media


class RelayDestination:
    """The target of a push that is relayed, and the channel of its stream. A push that the target refuses ends."""

    def __init__(self, target: str) -> None:
        id = f"compatible-{uuid.uuid4().hex[:16]}"
        self.channel = Channel({"id": id, "key": "", "outdate": NEVER_DATE, "isRelay": True, "relayURL": [target]})
        self.name = str(relay_urls.masked([target])[0])
        self._last_accepted = time.monotonic()
        self.problem = ""  # why the target does not accept the stream now; "": it accepts

    def check(self, stream: Stream, now: float) -> CloseReason | None:
        """Returns a reason if the push must end; otherwise None. Called once a second. now: monotonic seconds."""
        output = stream.output("relay")
        report: dict[str, Any] = output.report() if isinstance(output, RelayOutput) else {}
        target: dict[str, Any] = next(iter(report.get("targets", ())), {})
        self.problem = str(target.get("error") or "")
        if target.get("state") == TargetState.LIVE:
            self._last_accepted = now
        elif target.get("state") == TargetState.FAILED:
            return CloseReason(CloseCode.POLICY, self.problem or "the target cannot be used")
        elif now - self._last_accepted > TARGET_TIMEOUT:
            return CloseReason(CloseCode.TRY_LATER, self.problem or "the target does not take the stream")
        return None


def _covers(entry: str, target: str, host: str) -> bool:
    """Whether an entry of the list covers `target`, which is at `host`."""
    if "://" in entry:
        # A prefix must end at the end of a path segment.
        prefix, address = _lower_host(entry), _lower_host(target)
        return address.startswith(prefix) and (prefix.endswith("/") or address[len(prefix) :][:1] in ("", "/", "?"))
    entry = entry.lower().rstrip(".")
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


def _lower_host(address: str) -> str:
    """Returns the address with scheme and host in lower case, because only these ignore case."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"
