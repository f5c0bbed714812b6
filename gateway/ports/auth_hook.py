"""The operator's service that may refuse pushes and plays. An adapter implements it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol


class HookAction(StrEnum):
    """The request of a client: to publish or to play."""

    PUBLISH = "publish"
    PLAY = "play"


class HookMode(StrEnum):
    """When the service is asked. `auth.mode` has these values.

    BOTH: after a valid sign. INSTEAD: the sign is not needed. UNKNOWN: only for names that are no channel.
    """

    BOTH = "both"
    INSTEAD = "instead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HookDetails:
    """What only the service needs to know of a client.

    query: the parameters of its address, without "?". app, encoder, `tc_url`: of RTMP's `connect`.
    """

    query: str = field(default="", repr=False)
    app: str = "stream"
    tc_url: str = field(default="", repr=False)
    encoder: str = ""


NO_DETAILS: Final = HookDetails()


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A question. Equal questions have one answer.

    name: the stream, as the client sent it. address: the client's. film: whether the name is that of a film.
    """

    action: HookAction
    name: str = field(repr=False)  # may be a secret that the service translates
    address: str
    details: HookDetails = NO_DETAILS
    film: bool = False


class AuthHook(Protocol):
    """Asks the service. Without an answer, the client is refused."""

    def asks(self, action: HookAction) -> bool:
        """Whether the service is asked for this action at all."""

    async def ask(self, request: HookRequest, *, exempt: bool = False) -> str | None:
        """Returns the allowed stream, which may have another name; None if the client is refused.

        exempt: whether the address is a trusted proxy's, which is not limited. Raises AtCapacity.
        """
