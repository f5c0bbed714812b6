"""Publishes the stream that a pull brings into a hub of this process."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from typing import Any

from gateway.live.hub import Hub
from gateway.live.publisher import StreamPublisher
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.protocols.nodes import Hello


class PullReceiver(abc.ABC):
    """A Receiver that publishes into a hub. Units keep their timestamps.

    If a link breaks and the next one brings the same stream, units that were pushed already are left out.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._publisher: StreamPublisher | None = None
        self._session = ""
        self._epoch = -1
        self._seen: dict[Kind, int] = {}  # the last decode time of each kind in this session
        self._skipping = False

    @abc.abstractmethod
    def _begin(self, hello: Hello) -> StreamPublisher:
        """Returns the lease on the stream that now begins, which is not the previous one. Raises GatewayError."""

    # ---- Receiver ----

    def hello(self, hello: Hello) -> None:
        if self._publisher is not None and self._publisher.active and hello.session == self._session:
            self._skipping = True  # the cache of the sender begins with units that came already
            self.channel(hello.channel)
            return
        self._session, self._epoch, self._seen, self._skipping = hello.session, -1, {}, False
        self._publisher = self._begin(hello)

    @abc.abstractmethod
    def channel(self, fields: Mapping[str, Any]) -> None: ...

    def tracks(self, tracks: Tracks) -> None:
        publisher = self._publisher
        if publisher is None:
            return
        continuous = tracks.epoch == self._epoch
        if self._epoch >= 0 and not continuous:
            self._skipping = False
        self._epoch = tracks.epoch
        publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata, continuous=continuous)

    def unit(self, unit: AccessUnit) -> None:
        """Pushes a unit. Hot path."""
        publisher = self._publisher
        if publisher is None:
            return
        kind, dts = unit.track.kind, unit.dts
        if self._skipping:
            if dts <= self._seen.get(kind, dts - 1):
                return
            if kind is Kind.VIDEO:
                self._skipping = False
        self._seen[kind] = dts
        publisher.push(unit, time.monotonic())

    def timed(self, timed: Timed) -> None:
        if self._publisher is not None and not self._skipping:
            self._publisher.push_timed(timed)
