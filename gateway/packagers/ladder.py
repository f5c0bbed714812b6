"""A source stream and its renditions shown as one: multivariant playlists, and one MPD with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gateway.formats.hls.multivariant import Rendition, multivariant
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.manifest import Beside, lost
from gateway.packagers.presentation import AUDIO_GROUP
from gateway.packagers.ts import TsPackager

_TS_VERSION = 3


@dataclass(frozen=True, slots=True)
class TsStep:
    """A rendition as MPEG-TS. name: also its folder; output: ready; most: bits a second that it may reach, sound
    included; 0 where only what was measured is known."""

    name: str
    output: TsPackager
    most: int = 0


@dataclass(frozen=True, slots=True)
class CmafStep:
    """A rendition as CMAF, likewise."""

    name: str
    output: CmafPackager
    most: int = 0


Step: TypeAlias = TsStep | CmafStep


def ts_index(steps: Sequence[TsStep]) -> str:
    """`index.m3u8` with media.MARK behind its URIs, of MPEG-TS, in the order given."""
    return multivariant([s.output.variant(f"{s.name}/index.m3u8", s.most) for s in steps], version=_TS_VERSION)


def cmaf_index(steps: Sequence[CmafStep]) -> str:
    """The same of CMAF. The last step's sound is everyone's: a change of the picture does not touch it."""
    sound, renditions = None, []
    for step in steps:
        lane = step.output.lane("audio")
        if lane is not None and lane.header is not None:
            sound = lane
            renditions = [Rendition(AUDIO_GROUP, "audio", f"{step.name}/audio/index.m3u8", lane.header.channels)]
    return multivariant([s.output.variant(f"{s.name}/index.m3u8", sound, s.most) for s in steps], renditions)


def master(source: CmafPackager, steps: Sequence[CmafStep]) -> str:
    """`master.m3u8` with media.MARK behind its URIs: the source, then its renditions. The sound is the source's for
    all, and plays on without a seam."""
    sound = source.lane("audio") if len(source.lanes) > 1 else None
    return source.master([s.output.variant(f"{s.name}/video/index.m3u8", sound, s.most) for s in steps])


def manifest(source: CmafPackager, steps: Sequence[CmafStep]) -> str:
    """`manifest.mpd` with mpd.MARK and mpd.NOW in it: the source, and those renditions that cover what it lists; the
    sound is the source's."""
    return source.manifest(_besides(steps))


def joinable(source: CmafPackager, steps: Sequence[CmafStep]) -> bool:
    """Whether `manifest` lists every step, and a player can begin with any of them."""
    return source.joinable_beside(_besides(steps))


def behind(source: CmafPackager, rung: CmafPackager) -> bool:
    """Whether a rung lacks so much of what its source has that it is not only late."""
    ours, theirs = source.lane("video"), rung.lane("video")
    if source.over or not rung.ready or ours is None or theirs is None:
        return False
    source.catch_up()
    rung.catch_up()
    return lost(ours, theirs)


def _besides(steps: Sequence[CmafStep]) -> list[Beside]:
    return [Beside(s.name, lane, s.output.frame_rate) for s in steps if (lane := s.output.lane("video")) is not None]
