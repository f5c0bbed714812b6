"""Shows a source stream and its renditions as one: multivariant playlists, and one MPD with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import AudioRendition, multivariant
from gateway.packaging.cmaf.dash_manifest import AlternateRendition, lost
from gateway.packaging.cmaf.manifests import AUDIO_GROUP
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager import Packager
from gateway.packaging.ts.packager import TsPackager

_TS_VERSION = 3


P = TypeVar("P", bound=Packager)


@dataclass(frozen=True)  # no slots: Python 3.11 cannot make generic classes with both
class Step(Generic[P]):
    """A rendition in one format.

    name: the rendition's name, also its folder.
    output: its packager, which must be ready.
    most: highest bitrate that it may reach, in bits a second, audio included; 0 if only the measured one is known.
    """

    name: str
    output: P
    most: int = 0


TsStep: TypeAlias = Step[TsPackager]
CmafStep: TypeAlias = Step[CmafPackager]


def ts_index(steps: Sequence[TsStep]) -> str:
    """Returns `index.m3u8` for MPEG-TS with media_playlist.MARK after its URIs, renditions in the order given."""
    return multivariant([s.output.variant(f"{s.name}/index.m3u8", s.most) for s in steps], version=_TS_VERSION)


def cmaf_index(steps: Sequence[CmafStep]) -> str:
    """Returns `index.m3u8` for CMAF with media_playlist.MARK after its URIs, renditions in the order given.

    All variants use the audio of the last step, so a change of the video rendition does not touch the audio.
    """
    sound, renditions = None, []
    for step in steps:
        lane = step.output.lane("audio")
        if lane is not None and lane.header is not None:
            sound = lane
            renditions = [AudioRendition(AUDIO_GROUP, "audio", f"{step.name}/audio/index.m3u8", lane.header.channels)]
    return multivariant([s.output.variant(f"{s.name}/index.m3u8", sound, s.most) for s in steps], renditions)


def master(source: CmafPackager, steps: Sequence[CmafStep]) -> str:
    """Returns `master.m3u8` with media_playlist.MARK after its URIs: the source, then its renditions.

    All variants use the source's audio, which therefore plays on without a gap.
    """
    sound = source.lane("audio") if len(source.lanes) > 1 else None
    return source.master([s.output.variant(f"{s.name}/video/index.m3u8", sound, s.most) for s in steps])


def index_reports(own: CmafTrack, steps: Sequence[CmafStep], up: str) -> str:
    """Returns rendition reports of all tracks that `cmaf_index` lists, except `own`.

    up: relative path from the folder of `own` to that of the index.
    """
    listed = [(f"{s.name}/index.m3u8", s.output.lane("video")) for s in steps]
    sounds = [(f"{s.name}/audio/index.m3u8", lane) for s in steps if (lane := s.output.lane("audio")) is not None]
    return _reports(own, [*listed, *sounds[-1:]], up)


def master_reports(own: CmafTrack, source: CmafPackager, steps: Sequence[CmafStep], up: str) -> str:
    """Returns rendition reports of all tracks that `master` lists, except `own`; `up` as for `index_reports`."""
    listed = [(f"{s.name}/video/index.m3u8", s.output.lane("video")) for s in steps]
    return _reports(own, [*((f"{lane.kind}/index.m3u8", lane) for lane in source.lanes), *listed], up)


def _reports(own: CmafTrack, listed: Sequence[tuple[str, CmafTrack | None]], up: str) -> str:
    return "".join(
        media_playlist.rendition_report(up + uri, *lane.last)
        for uri, lane in listed
        if lane is not None and lane is not own
    )


def manifest(source: CmafPackager, steps: Sequence[CmafStep]) -> str:
    """Returns `manifest.mpd` with mpd.MARK and mpd.NOW in it.

    It lists the source and the renditions that cover what the source lists. The audio is the source's.
    """
    return source.manifest(_alternates(steps))


def joinable(source: CmafPackager, steps: Sequence[CmafStep]) -> bool:
    """Tells whether `manifest` lists every step and a player can start with any of them."""
    return source.joinable_beside(_alternates(steps))


def behind(source: CmafPackager, rung: CmafPackager) -> bool:
    """Tells whether a rendition lacks so much of the source's media that it is more than just late."""
    ours, theirs = source.lane("video"), rung.lane("video")
    if source.over or not rung.ready or ours is None or theirs is None:
        return False
    source.catch_up()
    rung.catch_up()
    return lost(ours, theirs)


def _alternates(steps: Sequence[CmafStep]) -> list[AlternateRendition]:
    return [
        AlternateRendition(s.name, lane, s.output.frame_rate)
        for s in steps
        if (lane := s.output.lane("video")) is not None
    ]
