"""Writes the multivariant playlists and the MPD of a source with its renditions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

from gateway.formats.hls.multivariant_playlist import AudioRendition, multivariant
from gateway.packaging.caption_files import subtitle_renditions
from gateway.packaging.cmaf import dash_manifest
from gateway.packaging.cmaf.dash_manifest import RENDITION_DELAY, AlternateRendition
from gateway.packaging.cmaf.manifests import AUDIO_GROUP
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack, rendition_reports
from gateway.packaging.packager import Packager
from gateway.packaging.ts.packager import TsPackager

_TS_VERSION = 3


P = TypeVar("P", bound=Packager)


@dataclass(frozen=True)  # no slots: in Python 3.11, a generic class cannot be frozen and have slots
class LadderRendition(Generic[P]):
    """A rendition in one format.

    name: the rendition's name, also its folder.
    packager: must be ready.
    declared_bitrate: bits a second, with audio, that the encoder may reach. The playlist announces at least this.
    0: only the measured bitrate is known.
    pushed: whether the source's publisher sends it, so it is not late.
    """

    name: str
    packager: P
    declared_bitrate: int = 0
    pushed: bool = False


TsRendition: TypeAlias = LadderRendition[TsPackager]
CmafRendition: TypeAlias = LadderRendition[CmafPackager]


def ts_index(
    renditions: Sequence[TsRendition], source: TsPackager | None = None, audio: Sequence[AudioRendition] = ()
) -> str:
    """Returns `index.m3u8` for MPEG-TS, with media_playlist.MARK after its URIs.

    Without `source`, keeps the order of `renditions`. With it, lists all variants by bandwidth, the smallest first.

    audio: the audio tracks, if there are several.
    """
    variants = [r.packager.variant(f"{r.name}/index.m3u8", r.declared_bitrate) for r in renditions]
    if source is not None:
        variants.append(source.variant("live.m3u8"))
        variants.sort(key=lambda v: v.bandwidth)
    if audio:
        variants = [replace(v, audio=AUDIO_GROUP) for v in variants]
    texts, folder = source.captions.texts if source is not None else (), ""
    if source is None and renditions:
        texts, folder = renditions[0].packager.captions.texts, f"{renditions[0].name}/"
    subtitles = subtitle_renditions(texts, "live.m3u8", folder)
    return multivariant(variants, audio, subtitles, version=_TS_VERSION)


def cmaf_index(renditions: Sequence[CmafRendition]) -> str:
    """Returns `index.m3u8` for CMAF, with media_playlist.MARK after its URIs. It keeps the order of `renditions`.

    All variants use the audio of the last rendition, so a video switch does not change the audio.
    """
    audio, audio_renditions = None, []
    for r in renditions:
        track = r.packager.manifests.track("audio")
        if track is not None and track.header is not None:
            audio = track
            uri = f"{r.name}/audio/index.m3u8"
            audio_renditions = [AudioRendition(AUDIO_GROUP, "audio", uri, track.header.channels)]
    variants = [r.packager.manifests.variant(f"{r.name}/index.m3u8", audio, r.declared_bitrate) for r in renditions]
    first = renditions[0]
    subtitles = subtitle_renditions(first.packager.captions.texts, "index.m3u8", f"{first.name}/")
    return multivariant(variants, audio_renditions, subtitles)


def master(source: CmafPackager, renditions: Sequence[CmafRendition]) -> str:
    """Returns `master.m3u8` with media_playlist.MARK after its URIs: the source, then its renditions.

    All variants use the source's audio, so the audio has no gap.
    """
    manifests = source.manifests
    audio = manifests.track("audio") if len(manifests.tracks) > 1 else None
    additional = [track for track in manifests.tracks if track.media == "audio" and track is not audio]
    return manifests.master(
        [
            r.packager.manifests.variant(f"{r.name}/video/index.m3u8", audio, r.declared_bitrate, additional)
            for r in renditions
        ]
    )


def index_reports(track: CmafTrack, renditions: Sequence[CmafRendition], path_to_index: str) -> str:
    """Returns rendition reports of all tracks that `cmaf_index` lists, except `track`.

    path_to_index: relative path from the folder of `track` to the folder of the index.
    """
    listed = [(f"{r.name}/index.m3u8", r.packager.manifests.track("video")) for r in renditions]
    audio = [
        (f"{r.name}/audio/index.m3u8", found)
        for r in renditions
        if (found := r.packager.manifests.track("audio")) is not None
    ]
    texts = [
        (f"{first.name}/{text.folder}/index.m3u8", first.packager.manifests.track("video"))
        for first in renditions[:1]
        for text in first.packager.captions.texts
    ]
    return rendition_reports(track, [*listed, *audio[-1:]], path_to_index) + rendition_reports(
        None, texts, path_to_index
    )


def master_reports(
    track: CmafTrack, source: CmafPackager, renditions: Sequence[CmafRendition], path_to_index: str
) -> str:
    """Returns rendition reports of all tracks that `master` lists, except `track`. Parameters: see `index_reports`."""
    own = [(f"{t.kind}/index.m3u8", t) for t in source.manifests.tracks]
    listed = [(f"{r.name}/video/index.m3u8", r.packager.manifests.track("video")) for r in renditions]
    return rendition_reports(track, [*own, *listed], path_to_index) + source.manifests.text_reports(path_to_index)


def manifest(source: CmafPackager, renditions: Sequence[CmafRendition]) -> str:
    """Returns `manifest.mpd` with mpd.MARK and mpd.NOW in it.

    It lists the source and the renditions that cover the source's time range. The audio is the source's.
    """
    return source.manifests.manifest(_alternates(renditions))


def is_playable(source: CmafPackager, renditions: Sequence[CmafRendition]) -> bool:
    """Whether `manifest` lists all renditions and a player can start with any of them."""
    return source.manifests.is_playable(_alternates(renditions))


def lags_too_far(source: CmafPackager, rendition: CmafPackager) -> bool:
    """Whether a rendition misses more of the source's media than a delay can explain."""
    source_track, track = source.manifests.track("video"), rendition.manifests.track("video")
    if source.over or not rendition.ready or source_track is None or track is None:
        return False
    source.catch_up()
    rendition.catch_up()
    return dash_manifest.lags_too_far(source_track, track)


def _alternates(renditions: Sequence[CmafRendition]) -> list[AlternateRendition]:
    return [
        AlternateRendition(r.name, track, r.packager.manifests.frame_rate, 0.0 if r.pushed else RENDITION_DELAY)
        for r in renditions
        if (track := r.packager.manifests.track("video")) is not None
    ]
