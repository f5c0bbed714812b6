"""The last refused pushes of each channel, in memory. Many encoders do not show why a push was refused."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.shown_types import Time
from gateway.ports.errors import RefusalReason
from gateway.ports.events import Event, EventType

MAX_REFUSALS: Final = 10  # of a channel
MAX_SIGNED: Final = 1_000  # channels for which a key with a genuine signature was refused
MAX_UNSIGNED: Final = 1_000  # other ids; many of them may not exist
# Only somebody with a genuine key of the channel can cause these.
_SIGNED: Final = frozenset((RefusalReason.EXPIRED, RefusalReason.REVOKED, RefusalReason.IN_USE, RefusalReason.UNUSABLE))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused push. expired: expiry of the key, if the reason is that it expired. text: what came, if `unusable`."""

    at: Time
    peer: str
    protocol: str
    reason: Annotated[str, WithJsonSchema({"enum": list(RefusalReason), "type": "string"})]
    expired: Time | None = None
    text: str | None = None


class RefusalLog:
    """Remembers the last MAX_REFUSALS refusals of each channel: `events.listen(log.listen)`.

    Wrong keys cause no read of the channel store, so their ids may not exist. Such ids have a table of their own. When
    it is full, the network with the most ids loses its oldest id. So a client that tries random ids removes only its
    own.
    """

    def __init__(self, max_signed: int = MAX_SIGNED, max_unsigned: int = MAX_UNSIGNED) -> None:
        self._max_unsigned = max_unsigned
        self._signed: BoundedDict[str, deque[Refusal]] = BoundedDict(max_signed)  # the id with the latest refusal last
        self._unsigned: OrderedDict[str, deque[Refusal]] = OrderedDict()
        self._networks: dict[str, str] = {}  # of the ids in _unsigned: network of the first refused client
        self._counts: Counter[str] = Counter()  # ids in _unsigned by network

    def __len__(self) -> int:
        """Returns the number of ids."""
        return len(self._signed) + len(self._unsigned)

    def listen(self, event: Event) -> None:
        """Remembers a `publish.refused` with a channel and a reason that clients see; ignores other events."""
        if event.type is not EventType.PUBLISH_REFUSED or not event.channel or "refusal" not in event.data:
            return
        data = event.data
        reason = RefusalReason(data["refusal"])
        peer, protocol, expired, text = (data.get(name) for name in ("peer", "protocol", "expired", "text"))
        expiry = rfc3339(expired) if expired is not None else None
        refusal = Refusal(rfc3339(event.time), str(peer), str(protocol), reason, expiry, text or None)
        self._find_or_add(event.channel, refusal).append(refusal)

    def of(self, channel: str) -> list[dict[str, Any]]:
        """Returns the refusals of a channel as JSON, the newest first. What is unknown is left out."""
        found = self._signed.get(channel) or self._unsigned.get(channel) or ()
        return [{name: v for name, v in asdict(refusal).items() if v is not None} for refusal in reversed(found)]

    def _find_or_add(self, id: str, refusal: Refusal) -> deque[Refusal]:
        if (found := self._signed.get(id)) is not None:
            self._signed.move_to_end(id)
            return found
        found = self._unsigned.get(id)
        if refusal.reason in _SIGNED:
            if found is not None:
                self._remove_unsigned(id)
            found = self._signed[id] = deque(found or (), MAX_REFUSALS)
        elif found is not None:
            self._unsigned.move_to_end(id)
        else:
            found = self._unsigned[id] = deque(maxlen=MAX_REFUSALS)
            network = self._networks[id] = client_network(refusal.peer)
            self._counts[network] += 1
            if len(self._unsigned) > self._max_unsigned:
                ((most, _),) = self._counts.most_common(1)
                self._remove_unsigned(next(id for id in self._unsigned if self._networks[id] == most))
        return found

    def _remove_unsigned(self, id: str) -> None:
        del self._unsigned[id]
        network = self._networks.pop(id)
        self._counts[network] -= 1
        if not self._counts[network]:
            del self._counts[network]


def newest(refusals: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the last MAX_REFUSALS of the refusals of several nodes, the newest first."""
    return sorted(refusals, key=lambda refusal: str(refusal.get("at")), reverse=True)[:MAX_REFUSALS]
