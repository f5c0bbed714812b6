"""Input descriptors and the interface of sources. Each folder of `gateway.inputs` exports one `INPUT`.

Importing a descriptor must be fast, because every gateway imports all of them. `make` imports the source itself.
"""

import abc
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind, InputSpec
from gateway.lib.egress import Egress
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit, MediaTrack, Tracks
from gateway.ports.stores import ObjectStore
from gateway.settings import Settings
from gateway.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class InputServices:
    """The services that all inputs of a gateway share. Sources never close them.

    workers: starts worker processes. The gateway's own process decodes and encodes nothing.
    egress: resolves and checks addresses from a channel.
    tls: for outgoing connections; None: the system's authorities.
    objects: the store of films, recordings and uploads.
    """

    settings: Settings
    workers: WorkerPool
    egress: Egress
    tls: ssl.SSLContext | None
    objects: ObjectStore


class InputContext(Protocol):
    """The gateway's side of one input, for its source."""

    @property
    def channel(self) -> Channel:
        """The stored channel. It may change while the source runs."""

    @property
    def expected_tracks(self) -> Tracks | None:
        """The tracks for which the viewers' decoders are set up; None: unknown.

        They are those of the last input on air that was neither a slate nor encoded by `Matching`.
        """

    @property
    def on_air(self) -> bool:
        """Whether the channel's stream has this input now."""

    async def until_on_air(self) -> None:
        """Waits until the input is on air."""

    async def until_off_air(self) -> None:
        """Waits until the input is not on air."""

    async def until_expected_tracks_change(self, known: Tracks | None) -> None:
        """Waits until `expected_tracks` are others than `known`. If only the metadata differ, that is no change."""

    def silence(self, track: MediaTrack) -> bytes:
        """Returns a silent frame like those of the last sound that needs one; b"" if the track is another one."""

    def publish(self, peer: str = "") -> StreamPublisher:
        """Returns a new publisher of this input. The source closes it when its media end.

        All its tracks have one timescale. Times may begin at any value.
        peer: the other end, for the session (an address without secrets).
        Raises AtCapacity during shutdown.
        """

    def report(self, problem: str | None) -> None:
        """Shows why no media come although the source goes on; None: nothing is wrong. `publish` also ends this."""


class InputSource(abc.ABC):
    """Delivers the media of one input. The gateway runs it for as long as the channel wants this input.

    problem: one line for the API if something is wrong but the source goes on, such as a broken film of a playlist.
    None or "": nothing is wrong.
    """

    problem: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a source that starts on demand can deliver now. Others are ready when their media arrive."""
        return False

    @property
    def is_between_items(self) -> bool:
        """Whether the source has no media until the time of its next scheduled item. The input is off until then."""
        return False

    @property
    def key_frame(self) -> AccessUnit | None:
        """The key frame with which it would begin on air; None: it has none before it is on air."""
        return None

    @abc.abstractmethod
    async def run(self, context: InputContext) -> None:
        """Delivers media until it is cancelled.

        If it returns, the input has no more media (a playlist without loop). If it raises OutputError, the input has
        failed with this text and is run again later. OutputUnsupported: it cannot work until it is configured anew.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDescriptor:
    """All information about a kind of input.

    make: makes the source of one input. Called when the channel is first needed, and after each change of the input.
    on_demand: whether its media begin when it goes on air. Others deliver all the time.
    """

    kind: InputKind
    make: Callable[[InputServices, InputSpec], InputSource]
    on_demand: bool
