"""Finds the available renditions of a ladder, from the transcoder and the existing streams."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from gateway.formats.hls.multivariant_playlist import AudioRendition
from gateway.http.response import Response
from gateway.live.output import OutputState
from gateway.live.pushed_tracks import labels
from gateway.live.stream import Stream
from gateway.media.track import Codec
from gateway.packaging.cmaf.manifests import AUDIO_GROUP
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.ladder_manifests import LadderRendition
from gateway.packaging.packager import Packager
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import packager
from gateway.ports.errors import NoSuchStream
from gateway.workers.ladder_plan import LadderStep, declared_bitrate

OUTPUT: Final = "codec"  # the transcoder's output name
_POLL_SECONDS: Final = 0.1  # between two checks of a transcoder that has not planned its renditions yet

P = TypeVar("P", bound=Packager)
LadderFormat: TypeAlias = tuple[str, type[Packager]]  # name and class of the output
TS: Final[tuple[str, type[TsPackager]]] = ("hls", TsPackager)
CMAF: Final[tuple[str, type[CmafPackager]]] = ("cmaf", CmafPackager)


@runtime_checkable
class LadderTranscoder(Protocol):
    """The output `codec`. active_steps: the renditions that are encoded now, smallest first; empty while unknown."""

    @property
    def active_steps(self) -> Sequence[LadderStep]: ...


@dataclass(frozen=True)
class LadderView(Generic[P]):
    """A ladder at one moment, in one format.

    renditions: the available ones, the smallest first. missing: the names of the renditions that are not available
    yet. is_known: whether the transcoder has planned its renditions, or the publisher sends renditions.
    source: the packager of the source, if it is part of the ladder: its publisher sends the renditions itself.
    audio: the publisher's audio tracks that can be played, the default one first; empty if there is only one.
    """

    renditions: Sequence[LadderRendition[P]]
    missing: Sequence[str]
    is_known: bool
    source: P | None = None
    audio: Sequence[AudioRendition] = ()

    @property
    def is_listable(self) -> bool:
        """Whether any rendition can be played."""
        return bool(self.renditions) or self.source is not None

    @property
    def is_complete(self) -> bool:
        return self.is_known and not self.missing

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rendition.name for rendition in self.renditions)


def has_ladder(stream: Stream) -> bool:
    """Whether a source has renditions, of a transcoder or of its publisher."""
    return stream.has_output(OUTPUT) or bool(stream.pushed_tracks)


def ladder_format(stream: Stream) -> LadderFormat:
    """Returns the ladder's format: CMAF for HEVC and AV1, because browsers play them only from CMAF."""
    if stream.channel.codec == "libx265" and stream.has_output(OUTPUT):
        return CMAF
    pushed = stream.pushed_tracks.video
    own = stream.tracks.video if stream.tracks is not None and pushed else None
    sent = [t.track for t in pushed] + ([own] if own is not None else [])
    return CMAF if any(track.codec is not Codec.H264 for track in sent) else TS


def current_ladder(hub: PlayableStreams, stream: Stream, format: tuple[str, type[P]]) -> LadderView[P]:
    """Returns the current ladder of a source.

    While the source is live or lingers, it has the renditions in these states. After the source has ended, it also has
    renditions that ended recently.
    """
    transcoder = stream.output(OUTPUT)
    planned: Sequence[LadderStep] = transcoder.active_steps if isinstance(transcoder, LadderTranscoder) else ()
    pushed = stream.pushed_tracks
    pushed_steps = [LadderStep(t.name, *(t.size or (0, 0)), t.info.bitrate, 0, 1.0) for t in pushed.video]
    source = packager(stream, *format) if pushed and (pushed_steps or not planned) else None
    if not isinstance(source, Packager) or not source.ready:
        source = None
    if pushed_steps:
        planned = sorted([*planned, *pushed_steps], key=lambda step: (step.height * step.width, step.bitrate))
    find = hub.find if stream.ended is None else hub.find_recent
    renditions: list[LadderRendition[P]] = []
    missing: list[str] = []
    for plan in planned:
        rendition = find(f"{stream.name}@{plan.name}")
        output = packager(rendition, *format) if rendition is not None else None
        if isinstance(output, Packager) and output.ready:
            most = int(encoded_bitrate(plan, rendition) * plan.vbv) + plan.audio
            renditions.append(LadderRendition(plan.name, output, most, plan.name in pushed.by_name))
        elif not isinstance(output, Response) or output.status != 404:
            # 404: this format is off for the rendition, or the rendition cannot have it.
            missing.append(plan.name)
    audio = _audio(stream, find) if format is TS and pushed else ()
    return LadderView(renditions, missing, bool(planned) or bool(pushed), source, audio)


def encoded_bitrate(step: LadderStep, rendition: Stream | None) -> int:
    """Returns the video's bits per second: those of the step, or fewer if its encoder says so."""
    declared = declared_bitrate(rendition.tracks.metadata) if rendition is not None and rendition.tracks else 0
    return min(step.bitrate, declared or step.bitrate)


def _audio(stream: Stream, find: Callable[[str], Stream | None]) -> list[AudioRendition]:
    """Returns the audio renditions in MPEG-TS. The default track is in the variants, so it has no URI."""
    tracks, found = stream.pushed_tracks, []
    for track, name in zip(tracks.audio, labels(tracks.default, tracks.audio)[1:], strict=True):
        rendition = find(f"{stream.name}@{track.name}")
        output = packager(rendition, *TS) if rendition is not None else None
        if isinstance(output, TsPackager) and output.ready:
            uri = f"{track.name}/index.m3u8"
            found.append(AudioRendition(AUDIO_GROUP, name, uri, 0, False, track.info.language))
    if not found:
        return []
    default = AudioRendition(AUDIO_GROUP, labels(tracks.default, [])[0], "", 0, True, tracks.default.language)
    return [default, *found]


def transcoder_failure(stream: Stream) -> str | None:
    """Returns the error of this stream's transcoder if it has failed; otherwise None."""
    statuses = stream.outputs.status() if stream.outputs is not None else []
    for output in statuses:
        if output["name"] == OUTPUT and output["state"] == OutputState.FAILED:
            return str(output["error"])
    return None


async def wait_for_rendition(
    hub: PlayableStreams, stream: Stream, format: LadderFormat, ladder: LadderView[Packager], seconds: float
) -> None:
    """Waits until the first missing rendition makes progress, at most `seconds`. Raises AtCapacity."""
    if not ladder.missing:
        await asyncio.sleep(min(_POLL_SECONDS, seconds))
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with contextlib.suppress(NoSuchStream):
        rendition = await hub.wait(f"{stream.name}@{ladder.missing[0]}", seconds)
        output = packager(rendition, *format)
        if isinstance(output, Packager) and not output.stopped:
            await output.changed.until(lambda: output.ready or output.stopped, end - loop.time())
        else:
            await asyncio.sleep(min(_POLL_SECONDS, seconds))  # its output is being started, or started again
