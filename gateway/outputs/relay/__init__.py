"""Relays: push streams to other RTMP(S) servers and to Amazon IVS.

Each target has its own connection and state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    return OUTPUT.spec(services.relays.make)


OUTPUT = OutputDescriptor(name="relay", flag="isRelay", make=_make, order=30)
