"""An output that watches the distance of key frames: players wait for one before they show a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.channels.fields import Flag, Number
from gateway.outputs.descriptor import OutputDescriptor, OutputField

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from .output import GopCheck

    return OUTPUT.spec(GopCheck)


OUTPUT = OutputDescriptor(
    name="gopcheck",
    flag="isGopCheck",
    make=_make,
    label={"en": "Key frame check", "zh": "关键帧检查"},
    fields={
        "isGopCheck": OutputField(Flag(), {"en": "Key frame check", "zh": "关键帧检查"}),
        "gop_limit": OutputField(
            Number(4, 0.5, 60), {"en": "Longest distance of key frames", "zh": "关键帧最大间隔"}, unit="s"
        ),
    },
)
