"""The demux worker: copies the tracks of several sources of one input. The gateway passes the bytes.

`python -m gateway.workers.programs.demux.demux_worker <fd>`
"""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition

from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.protocols import wire
from gateway.workers.demux_protocol import CREDIT, DemuxMessage, DemuxRequest, decode_data, decode_more, encode_read
from gateway.workers.programs import program
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.demux.presentation_times import PresentationTimes
from gateway.workers.programs.demux.source_file import SourceClosed, SourceFile
from gateway.workers.programs.demux.track_copy import NotCarried, TrackCopy, copy_of
from gateway.workers.programs.unit_writer import UnitWriter
from gateway.workers.programs.vod.media_file import CONTAINERS, lacks_presentation_times, set_usual_layout

_MAX_ORIENTATION: Final = 40  # packets that are decoded for the rotation of a file
_PRIMING: Final = 0.1  # seconds of sound before the begin of a film that are needed to decode it
_MAX_BROKEN: Final = 100  # broken pictures in a row, or frames of sound alone, after which a source has failed


class OpenSource:
    """Reads one source in its own thread and sends its units. Sends FAILED or END at the end."""

    def __init__(self, link: program.ParentLink, request: DemuxRequest) -> None:
        self._link = link
        self._request = request
        number = request.source
        self.file = SourceFile(
            request.size, CREDIT, lambda offset, size: link.send(DemuxMessage.READ, encode_read(number, offset, size))
        )
        self._writer = UnitWriter(self._send_tracks, self._send_units)

    def run(self) -> None:
        """Demuxes the source to its end."""
        number = self._request.source
        try:
            with self._open() as container:
                if self._seek(container):
                    self._copy(container)
            self._writer.flush()
            self._link.send_end(number)
        except SourceClosed:
            return
        except (NotCarried, CodecFailed, InvalidData) as error:
            self._fail(str(error))
        except av.error.FFmpegError:
            self._fail("it is not readable media")
        except MemoryError:
            self._fail("not enough memory")

    def _fail(self, reason: str) -> None:
        self._link.send_json(DemuxMessage.FAILED, source=self._request.source, reason=reason)

    def _open(self) -> InputContainer:
        request = self._request
        seconds = request.probe_seconds
        options = {
            "format_whitelist": ",".join(CONTAINERS),
            "protocol_whitelist": "none",
            "probesize": "20000000" if request.size else "1000000",
            "analyzeduration": str(round(seconds * 1_000_000)),
        }
        container = av.open(
            self.file, format=request.format or None, options=options, metadata_errors="replace", buffer_size=65_536
        )
        assert isinstance(container, InputContainer), "it is opened for reading"
        return container

    def _seek(self, container: InputContainer) -> bool:
        """Moves to the requested start. Returns False if the file is shorter."""
        start = round(self._request.start * av.time_base)
        if not start:
            return True
        if container.duration is not None and start >= container.duration:
            return False
        container.seek((container.start_time or 0) + start)
        return True

    def _copy(self, container: InputContainer) -> None:
        copies = self._copies(container)
        if not copies:
            raise NotCarried("it has no video or sound that can be carried")
        self._writer.open(Kind(stream.type) for stream, _ in copies.values())
        for _, copy in copies.values():
            if copy.track is not None:
                self._writer.set_track(copy.track)
        broken = 0  # of the first track
        streams = [stream for stream, _ in copies.values()]
        lacking = {s.index: PresentationTimes(s) for s in streams if _lacks_times(container.format.name, s)}
        # Containers without presentation times have no rotation, and their decoder is in use.
        upright = _Orientation() if self._request.size and not lacking else None
        for packet in _packets(container, streams, lacking):
            stream, copy = copies[packet.stream.index]
            if packet.size == 0 or (packet.is_discard and _is_hidden_sound(packet)):
                continue
            if upright is not None and stream.type == "video" and (degrees := upright.find(packet)) is not None:
                upright = None
                if degrees:
                    self._leave_out(f"its pictures are shown without their rotation by {degrees}°; convert it as VoD")
            try:
                units = copy.take(packet, time.time())
                broken = 0 if stream is streams[0] else broken
            except InvalidData as error:
                broken += stream is streams[0]
                if broken > _MAX_BROKEN:
                    raise InvalidData(f"it is damaged: {error}") from error
                continue
            if copy.track is not None:
                self._writer.set_track(copy.track)
            self._writer.send_units(units)
        if self._request.size and any(s.type == "video" and copy.track is None for s, copy in copies.values()):
            raise NotCarried("none of its pictures can be shown")

    def _copies(self, container: InputContainer) -> dict[int, tuple[Any, TrackCopy]]:
        """Returns the copies of the video and the audio track, by stream index."""
        copies: dict[int, tuple[Any, TrackCopy]] = {}
        refused: dict[str, str] = {}  # reasons by the name of the codec
        for sound in container.streams.audio:
            set_usual_layout(sound)
        for kind, found in (("video", container.streams.video), ("audio", container.streams.audio)):
            usable = [s for s in found if s.codec_context is not None and not s.disposition & Disposition.attached_pic]
            usable.sort(key=lambda s: not s.disposition & Disposition.default)
            for stream in usable:
                try:
                    copies[stream.index] = (stream, copy_of(stream, for_fragments=self._request.for_fragments))
                    break
                except (NotCarried, CodecFailed) as error:
                    refused.setdefault(str(stream.codec_context.codec.canonical_name), str(error))
            if kind == "video" and refused:
                raise NotCarried(f"{next(iter(refused.values()))} cannot be carried without decoding")
            is_copied = any(stream.type == kind for stream, _ in copies.values())
            if kind == "audio" and not is_copied and any(s.codec_context is None for s in found):
                refused.setdefault("sound of an unknown codec", "sound of an unknown codec")
        for name, what in refused.items():
            self._leave_out(f"its {what} cannot be played", name)
        return copies

    def _leave_out(self, what: str, name: str = "") -> None:
        self._link.send_json(DemuxMessage.LEFT_OUT, source=self._request.source, what=what, name=name)

    def _send_tracks(self, tracks: Tracks) -> None:
        self._link.send_tracks(tracks, self._request.source)

    def _send_units(self, units: Iterable[AccessUnit]) -> None:
        for unit in units:
            self.file.spend(len(unit.payload))
            self._link.send_units((unit,), self._request.source)


class _Orientation:
    """Finds the rotation of a file's pictures, which libav tells with the first decoded one."""

    def __init__(self) -> None:
        self._left = _MAX_ORIENTATION

    def find(self, packet: Any) -> int | None:
        """Returns the degrees; 0 if they are unknown after some packets; None: more packets are needed."""
        self._left -= 1
        with suppress(av.error.FFmpegError):  # a broken packet is counted where it is copied
            if frames := packet.decode():
                return int(frames[0].rotation) % 360
        return None if self._left else 0


def _lacks_times(container: str, stream: Any) -> bool:
    """Whether pictures lack presentation times. A packet of a program stream has them for its first picture only."""
    return lacks_presentation_times(container, stream) or (container == "mpeg" and stream.type == "video")


def _is_hidden_sound(packet: Any) -> bool:
    """Whether an edit list hides a packet of sound. The decoder needs the last ones before the begin."""
    return packet.stream.type == "audio" and packet.pts is not None and packet.pts * packet.time_base < -_PRIMING


def _packets(container: InputContainer, streams: list[Any], lacking: Mapping[int, PresentationTimes]) -> Iterator[Any]:
    """Yields packets with presentation times. lacking: those of streams whose container lacks them, by index."""
    try:
        for packet in container.demux(streams):
            times = lacking.get(packet.stream.index)  # `stream_index` of the empty packets at the end is 0
            yield from (packet,) if times is None else times.take(packet)
    except IndexError:
        # PyAV knows only the first tracks. In a transport stream, tracks with new PIDs may replace them.
        raise NotCarried("its tracks have changed") from None


class DemuxWorker:
    """Opens sources on request, and passes the gateway's answers to their threads."""

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._sources: dict[int, SourceFile] = {}

    def work(self) -> None:
        """Runs until the gateway closes the link. Raises InvalidData for an unknown frame."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == DemuxMessage.OPEN:
                request = wire.decode_record(DemuxRequest, body)
                source = OpenSource(self._link, request)
                self._sources[request.source] = source.file
                program.start_thread(source.run, f"source {request.source}")
            elif kind == DemuxMessage.DATA:
                number, data = decode_data(body)
                if (file := self._sources.get(number)) is not None:
                    file.add_data(data)
            elif kind == DemuxMessage.MORE:
                number, size = decode_more(body)
                if (file := self._sources.get(number)) is not None:
                    file.add_credit(size)
            elif kind == DemuxMessage.CLOSE:
                with suppress(KeyError):
                    self._sources.pop(wire.destination(body)).close()
            else:
                raise InvalidData(f"a frame of kind {kind}")


def work(link: program.ParentLink) -> None:
    """Runs the worker."""
    DemuxWorker(link).work()


if __name__ == "__main__":
    sys.exit(program.run(work))
