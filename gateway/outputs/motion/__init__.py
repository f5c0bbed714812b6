"""The output `motion`: stores a clip and a picture of each motion, and has the rule that detects motion.

A function of `gateway.outputs.snapshot` stores the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.motion.motion_output import MotionOutput

    archive, jpegs, counts = services.archive, services.jpegs, services.recording_counts
    pre_roll = services.settings.motion.pre_roll
    return OUTPUT.spec(lambda stream: MotionOutput(stream, archive, jpegs, counts, pre_roll))


OUTPUT = OutputDescriptor(name="motion", flag="isMotion", make=_make, order=80)
