"""Publishes the additional tracks of one push as renditions of its stream.

The default tracks of a push are in the stream itself. Each additional track has an id and a kind, and its own stream
`<id>@<name>`: a rendition. So every output that can play renditions can play it. A video rendition also has the default
audio track. An audio rendition has its own track only. All have the times of the stream.

A rendition begins with two steps. It waits until its tracks are announced (`waits`). Then it needs a key frame, because
units before it are useless (`key_due`). Each change of tracks begins both steps again. Units until then are dropped
and counted, so that nothing is stored.

Changes are limited as those of one stream (`track_changes`). Each one counts as a change of the publisher, which is
ended if it keeps changing. All renditions of a stream share one limiter. A change that comes too soon waits.

If a channel has several inputs, these take turns (`leave`). The input on air may lack a track that an earlier input
had. Then the rendition is away (`is_away`): it shows the default media instead, so its viewers go on. At the next key
frame of its own track, it returns. A default picture is held until the next one (`held`). If the own track begins at
its time, the picture is left out.

Two tables have the renditions. `_by_name` has all of them, and decides their names. `_renditions` has those that the
input on air sends, by number: twice the track's id, and one more for audio. The tuples `_video`, `_away_video` and
`_away_audio` follow from them (`_sort`), for the hot path.

The publisher of the stream owns this object, and calls it with its units. Other code only reads `Stream.pushed_tracks`,
which lists the renditions, also those that linger after their push.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED, PushedTrack, TrackInfo
from gateway.live.stream import Stream
from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack
from gateway.ports.errors import GatewayError

log = structlog.get_logger(__name__)

_AUDIO = Kind.AUDIO


@dataclass(slots=True)
class _Rendition:
    """One published track and its state; see the top of this file.

    held: the newest default picture while it is away.
    last: its newest unit, without the default audio of a video rendition.
    """

    pushed: PushedTrack
    publisher: StreamPublisher
    waits: bool = True
    key_due: bool = True
    is_away: bool = False
    held: AccessUnit | None = None
    last: AccessUnit | None = None


class TrackPublisher:
    """Publishes each additional track of one publisher as a rendition.

    publish(source, name, aligned): returns a publisher of the rendition of this name. Raises GatewayError.
    aligned: whether its segments begin with those of the stream.
    """

    def __init__(
        self, source: StreamPublisher, publish: Callable[[StreamPublisher, str, bool], StreamPublisher]
    ) -> None:
        self._source = source
        self._publish = publish
        self._renditions: dict[int, _Rendition] = {}  # of the input on air: by twice the id, and one more for audio
        self._by_name: dict[str, _Rendition] = {}  # also those without a track on air
        self._refused: set[int] = set()  # numbers of tracks for which no rendition could be published
        self._audio: MediaTrack | None = None  # of the video renditions
        self._video: tuple[_Rendition, ...] = ()
        self._away_video: tuple[_Rendition, ...] = ()
        self._away_audio: tuple[_Rendition, ...] = ()

    @property
    def known(self) -> dict[int, tuple[MediaTrack, TrackInfo]]:
        """The tracks of the input on air with their infos, by number."""
        return {number: (r.pushed.track, r.pushed.info) for number, r in self._renditions.items()}

    def begin(self, source: StreamPublisher) -> None:
        """Publishes for another publisher of the same stream from now on."""
        self._source = source

    # ---- several inputs ----

    def differs(self, video: MediaTrack | None, audio: MediaTrack | None) -> bool:
        """Whether a rendition would change its tracks if it began or stopped showing these default tracks."""
        default = {Kind.VIDEO: video, Kind.AUDIO: audio}
        return any(r.pushed.track != default[r.pushed.kind] for r in self._by_name.values())

    def leave(self) -> None:
        """Shows the default media in all renditions. Called before the first unit of another input.

        The default tracks of that input are announced, its additional tracks (`set_track`) are not.
        """
        stream = self._source.stream
        tracks = stream.original.tracks
        self._renditions = {}
        self._refused.clear()
        self._audio = None if tracks is None else tracks.audio
        for rendition in self._by_name.values():
            if rendition.held is not None and not rendition.waits:
                rendition.publisher.push_shifted(rendition.held, stream.received.last_push)
                rendition.last = rendition.held
            rendition.waits = rendition.key_due = rendition.is_away = True
            rendition.held = None
        for pushed in list(stream.pushed_tracks.by_name.values()):
            if pushed.name not in self._by_name:
                self._resume(pushed)
        self._sort()

    def _resume(self, pushed: PushedTrack) -> None:
        """Publishes a rendition again that lingers since an earlier push."""
        try:
            publisher = self._publish(self._source, pushed.name, pushed.kind is Kind.VIDEO)
        except GatewayError as error:
            log.warning("a rendition cannot go on", stream=self._source.stream.name, rendition=pushed.name,
                        reason=f"{type(error).__name__}: {error}"[:200])  # fmt: skip
            return
        self._by_name[pushed.name] = _Rendition(pushed, publisher, is_away=True)

    def _apply_names(self, kind: Kind, track_id: int, info: TrackInfo) -> TrackInfo:
        """Returns the info with the language and name that the channel gives to an audio track."""
        names = self._source.stream.channel.audio_tracks
        if kind is not Kind.AUDIO or track_id >= len(names):
            return info
        language, label = names[track_id]
        return replace(info, language=language, label=label or info.label)

    def change_default(self) -> None:
        """Called after the default tracks of the input on air have changed, before their first unit."""
        for rendition in (*self._away_video, *self._away_audio):
            rendition.waits = rendition.key_due = True
            rendition.held = None

    def set_track(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces or changes an additional track. Raises KeepsChanging."""
        key = 2 * track_id + (track.kind is _AUDIO)
        rendition = self._renditions.get(key)
        if rendition is None:
            if key not in self._refused:
                self._add(track_id, track, self._apply_names(track.kind, track_id, info))
            return
        if rendition.pushed.track != track:
            self._source.count_change(now)
            rendition.pushed.track, rendition.pushed.size = track, _size(track, info)
            rendition.waits = rendition.key_due = True
            self._source.stream.pushed_tracks.changed()

    def describe(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Applies a changed onMetaData. info(kind, id): returns the info of a track; the default track has id 0."""
        tracks = self._source.stream.pushed_tracks
        tracks.default = self._apply_names(Kind.AUDIO, 0, info(Kind.AUDIO, 0))
        for rendition in self._renditions.values():
            kind, track_id = rendition.pushed.kind, rendition.pushed.id
            rendition.pushed.info = self._apply_names(kind, track_id, info(kind, track_id))
        tracks.changed()

    def push(self, number: int, unit: AccessUnit, now: float) -> None:
        """Pushes one unit of an additional track. Hot path.

        number: twice its id, and one more for audio. unit.dts: in the publisher's time. now: monotonic seconds.
        """
        rendition = self._renditions.get(number)
        source = self._source
        if rendition is None:
            source.on_air.dropped["tracks"] += 1
            return
        if shift := source.shift(unit, now):
            unit.dts += shift
        if rendition.is_away and unit.key:
            self._return(rendition, unit, now)
        begins = rendition.waits or rendition.key_due
        if rendition.is_away or (begins and not self._begin(rendition, unit, now)):
            source.on_air.dropped["tracks"] += 1
            return
        rendition.last = unit
        if not rendition.publisher.push_own(unit, now):
            source.on_air.dropped["tracks"] += 1

    def take_default(self, unit: AccessUnit, now: float) -> None:
        """Pushes a unit of a default track to the renditions that have it. Hot path. Its dts is in stream time."""
        if unit.track.kind is _AUDIO:
            self._default_audio(unit, now)
            for rendition in self._away_audio:
                self._push_default(rendition, unit, now)
        else:
            for rendition in self._away_video:
                held, rendition.held = rendition.held, unit
                if held is not None:
                    self._push_default(rendition, held, now)

    def _default_audio(self, unit: AccessUnit, now: float) -> None:
        """Pushes a unit of the default audio track to the video renditions. Hot path."""
        if unit.track is not self._audio:
            if unit.track != self._audio:
                for rendition in self._video:
                    rendition.waits = rendition.key_due = True
            self._audio = unit.track
        for rendition in self._video:
            if not rendition.waits and not rendition.key_due:
                rendition.publisher.push_shifted(unit, now)

    def close(self) -> None:
        """Ends the push of all renditions. They linger as their source does."""
        renditions, self._by_name, self._renditions = self._by_name, {}, {}
        self._sort()
        for rendition in renditions.values():
            rendition.publisher.close()

    # ---- details ----

    def _begin(self, rendition: _Rendition, unit: AccessUnit, now: float) -> bool:
        """Begins a rendition, if this unit is a key frame after its earlier units. Returns whether it has begun."""
        last = rendition.last
        if rendition.key_due and (not unit.key or (last is not None and _seconds(unit) <= _seconds(last))):
            return False
        if rendition.waits and not self._announce(rendition, now):
            return False
        rendition.key_due = False
        return True

    def _push_default(self, rendition: _Rendition, unit: AccessUnit, now: float) -> None:
        """Pushes a unit of a default track instead of the rendition's own."""
        if self._begin(rendition, unit, now):
            rendition.last = unit
            rendition.publisher.push_shifted(unit, now)

    def _return(self, rendition: _Rendition, key_frame: AccessUnit, now: float) -> None:
        """Lets a rendition show its own track again. If this key frame is too early, the next one is used."""
        held, rendition.held = rendition.held, None
        if held is not None and _seconds(held) < _seconds(key_frame):
            self._push_default(rendition, held, now)
        rendition.is_away = False
        rendition.waits = rendition.key_due = True
        self._sort()

    def _sort(self) -> None:
        renditions = self._by_name.values()
        self._video = tuple(r for r in renditions if r.pushed.kind is Kind.VIDEO)
        self._away_video = tuple(r for r in self._video if r.is_away)
        self._away_audio = tuple(r for r in renditions if r.is_away and r.pushed.kind is _AUDIO)

    def _add(self, track_id: int, track: MediaTrack, info: TrackInfo) -> None:
        stream, kind = self._source.stream, track.kind
        size = _size(track, info)
        name = self._name(track_id, kind, size)
        rendition = self._by_name.get(name)
        if rendition is not None:  # of an earlier input
            pushed = rendition.pushed
            pushed.id, pushed.track, pushed.info, pushed.size = track_id, track, info, size
            self._renditions[2 * track_id + (kind is _AUDIO)] = rendition
            stream.pushed_tracks.changed()
            return
        try:
            self._make_room(kind)
            publisher = self._publish(self._source, name, kind is Kind.VIDEO)
        except GatewayError as error:
            self._refused.add(2 * track_id + (kind is _AUDIO))
            log.warning("a track cannot be published", stream=stream.name, kind=str(kind), track=track_id,
                        reason=f"{type(error).__name__}: {error}"[:200])  # fmt: skip
            return
        pushed = PushedTrack(track_id, kind, name, publisher.stream, track, info, size)
        rendition = self._by_name[name] = _Rendition(pushed, publisher)
        self._renditions[2 * track_id + (kind is _AUDIO)] = rendition
        self._sort()
        tracks = stream.original.tracks
        if tracks is not None:
            self._audio = tracks.audio
        if stream.pushed_tracks.add(pushed):
            own = publisher.stream
            own.when_ended(lambda reason: _remove(name, own, stream))
        log.info("additional track", stream=stream.name, kind=str(kind), track=track_id, rendition=name,
                 codec=str(track.codec), language=info.language)  # fmt: skip
        _inform_outputs(stream)

    def _name(self, track_id: int, kind: Kind, size: tuple[int, int] | None) -> str:
        """Returns `720p` for video of this height (or width, if it is smaller), and `audio2` for sound with id 2."""
        if kind is Kind.AUDIO:
            return f"audio{track_id}"
        name = f"{min(size)}p" if size is not None else f"video{track_id}"
        taken = {r.pushed.name for r in self._renditions.values()}
        return name if name not in taken else f"{name}{track_id}"

    def _make_room(self, kind: Kind) -> None:
        """Ends a rendition without a track on air, if there are too many of this kind."""
        same = [r for r in self._by_name.values() if r.pushed.kind is kind]
        unused = [r for r in same if r not in self._renditions.values()]
        if len(same) >= MAX_PUSHED // 2 and unused:
            del self._by_name[unused[0].pushed.name]
            unused[0].publisher.close()
            self._sort()

    def _announce(self, rendition: _Rendition, now: float) -> bool:
        """Announces the tracks of a rendition, if the limit of changes allows it now. The same tracks are no change."""
        pushed, stream = rendition.pushed, self._source.stream
        default = stream.original.tracks if rendition.is_away else None
        if pushed.kind is Kind.VIDEO:
            video, audio = pushed.track if default is None else default.video, self._audio
        else:
            video, audio = None, pushed.track if default is None else default.audio
        known = rendition.publisher.stream.original.tracks if rendition.last is not None else None
        changes = known is None or (known.video, known.audio) != (video, audio)
        if changes and not stream.received.limiters.additional.take(now):
            return False
        rendition.waits = False
        rendition.publisher.set_tracks(video, audio, _metadata(pushed) if default is None else default.metadata)
        return True


def _remove(name: str, rendition: Stream, source: Stream) -> None:
    """Called when a rendition has ended."""
    source.pushed_tracks.remove(name, rendition)
    if source.original.ended is None:
        _inform_outputs(source)


def _inform_outputs(source: Stream) -> None:
    """Lets a ladder make the renditions that the publisher does not send, and no others."""
    if source.outputs is not None:
        source.outputs.channel_changed()


def _seconds(unit: AccessUnit) -> float:
    return unit.dts / unit.track.timescale


def _size(track: MediaTrack, info: TrackInfo) -> tuple[int, int] | None:
    """Returns the picture size from the sequence header, else from the metadata; None if unknown."""
    if track.kind is Kind.AUDIO:
        return None
    try:
        size = codecs.video_size(track)
    except InvalidData:
        size = None
    return size or ((info.width, info.height) if info.width and info.height else None)


def _metadata(pushed: PushedTrack) -> dict[str, AmfValue]:
    """Returns the onMetaData of a rendition."""
    metadata: dict[str, AmfValue] = {}
    info = pushed.info
    if pushed.size is not None:
        metadata |= {"width": float(pushed.size[0]), "height": float(pushed.size[1])}
    if info.fps:
        metadata["framerate"] = info.fps
    if info.bitrate:
        metadata[f"{pushed.kind}datarate"] = info.bitrate / 1000
    return metadata
