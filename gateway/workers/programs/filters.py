"""Prepares pictures for an encoder: deinterlaces, rotates and scales them, and converts them to 8-bit 4:2:0."""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final, TypeAlias

import av
from av.error import BlockingIOError as NothingReady
from av.error import EOFError as NothingLeft
from av.filter.context import FilterContext
from av.filter.graph import Graph

from gateway.media.track import AccessUnit, MediaTrack
from gateway.workers.programs.codec import DecodedPicture, VideoDecoder
from gateway.workers.programs.hdr import to_sdr

# The filters that apply a display matrix (signs of a, b, c, d) to the picture; x' = ax + cy, y' = bx + dy.
_ROTATIONS: Final = {
    (0, 1, -1, 0): ("transpose=clock",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, -1, 1, 0): ("transpose=cclock",),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}

# The same without the matrix, by the degrees that it turns counterclockwise.
_TURNS: Final = {90: ("transpose=cclock",), 180: ("hflip", "vflip"), 270: ("transpose=clock",)}

# The names of matrices that FFmpeg can convert, by their numbers in ITU-T H.273.
MATRICES: Final = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"}
# The primaries and transfer functions that FFmpeg's scaler accepts; for others it fails.
_PRIMARIES: Final = frozenset((1, 2, *range(4, 13), 22))
_TRANSFERS: Final = frozenset((1, 2, *range(4, 9), *range(11, 19)))
_UNSPECIFIED: Final = 2
FULL_RANGE: Final = 2  # of FFmpeg
_BT709, _SMPTE170M, _BT2020, _BT2020_CONSTANT = 1, 6, 9, 10
_HD: Final = 720  # from this height on, players use BT.709 if the matrix is unspecified

_Ends: TypeAlias = tuple[Graph, FilterContext, FilterContext]  # a graph, its source and its sink
_Frame: TypeAlias = av.VideoFrame | av.AudioFrame


def build_graph(
    frame: _Frame, steps: Iterable[str], timescale: int, threads: int = 1, table: av.VideoFrame | None = None
) -> _Ends:
    """Returns a chain of filters for pictures or sound like this frame, with its source and its sink.

    steps: "name" or "name=arguments". timescale: of the frames' times. threads: 0: one thread for each core.
    table: the second input of the filter `haldclut`.
    """
    graph = Graph()
    graph.threads = threads
    prefix = "a" if isinstance(frame, av.AudioFrame) else ""
    nodes = add_source(graph, frame, timescale)
    for step in steps:
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments or None))
        if name == "haldclut":
            assert table is not None, "the steps come with their table"
            (source,) = add_source(graph, table, timescale)
            source.link_to(nodes[-1], 0, 1)
    nodes.append(graph.add(f"{prefix}buffersink"))
    graph.link_nodes(*nodes).configure()
    if table is not None:
        source.push(table)
        source.push(None)
    return graph, nodes[0], nodes[-1]


def add_source(graph: Graph, frame: _Frame, timescale: int) -> list[FilterContext]:
    """Adds the source of a chain for frames like this one. Returns it, and the filter that must follow it, if any.

    That filter sets the matrix of YUV pictures to the one that players use: FFmpeg cannot convert every declared one.
    Primaries and transfer functions that FFmpeg does not know become unspecified.
    """
    if isinstance(frame, av.AudioFrame):
        form = f"sample_rate={frame.sample_rate}:sample_fmt={frame.format.name}:channel_layout={frame.layout.name}"
        return [graph.add("abuffer", f"time_base=1/{timescale}:{form}")]
    matrix = f"colorspace={shown_matrix(frame.colorspace, frame.height)}"
    form = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:pixel_aspect=1/1"
    source = graph.add("buffer", f"time_base=1/{timescale}:{form}:{matrix}:range={frame.color_range}")
    colors = [] if frame.format.is_rgb else [matrix]
    if frame.color_primaries not in _PRIMARIES:
        colors.append(f"color_primaries={_UNSPECIFIED}")
    if frame.color_trc not in _TRANSFERS:
        colors.append(f"color_trc={_UNSPECIFIED}")
    return [source, graph.add("setparams", ":".join(colors))] if colors else [source]


def shown_matrix(declared: int, height: int) -> int:
    """Returns the matrix that players use for pictures of this height. declared: by the stream.

    It is one of MATRICES. For BT.2020 with constant luminance, it is the similar one without.
    """
    if declared in MATRICES:
        return declared
    if declared == _BT2020_CONSTANT:
        return _BT2020
    return _BT709 if height >= _HD else _SMPTE170M


def pull_frames(sink: FilterContext) -> Iterator[Any]:
    """Yields the frames that are ready at the sink of a chain."""
    while True:
        try:
            frame = sink.pull()
        except (NothingReady, NothingLeft):
            return
        yield frame


class Chain:
    """A chain of libavfilter filters for pictures or sound. It is rebuilt if the form of the frames changes.

    Frames are passed by reference and not modified, so several threads may push one frame.

    steps, timescale, threads, table: see `build_graph`.
    """

    def __init__(
        self, steps: Sequence[str], timescale: int = 1000, threads: int = 1, table: av.VideoFrame | None = None
    ) -> None:
        self._steps = steps
        self._table = table
        self._timescale = timescale
        self._threads = threads
        self._input_format: tuple[object, ...] | None = None
        self._ends: _Ends | None = None

    def push(self, frame: _Frame) -> list[Any]:
        """Returns the frames that are ready. A frame of another form first flushes the chain."""
        input_format: tuple[object, ...]
        if isinstance(frame, av.VideoFrame):
            form = frame.width, frame.height, frame.format.name
            input_format = (*form, frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        else:
            input_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        out: list[Any] = []
        if self._ends is None or input_format != self._input_format:
            out = self.flush()
            self._input_format = input_format
            self._ends = build_graph(frame, self._steps, self._timescale, self._threads, self._table)
        _, source, sink = self._ends
        source.push(frame)
        out.extend(pull_frames(sink))
        return out

    def flush(self) -> list[Any]:
        """Returns the frames that the filters have delayed, and resets the chain."""
        if self._ends is None:
            return []
        self._ends[1].push(None)
        out = list(pull_frames(self._ends[2]))
        self._ends = None
        return out


class Scaler:
    """Scales pictures to one size, as yuv420p of limited range. Encoders and players accept this format.

    The result declares a matrix of MATRICES. Pictures in HDR become SDR after scaling, because that costs 30 ms of CPU
    for a picture of 1280 x 720.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = f"scale={width}:{height}:flags=bicubic"
        self._colors: tuple[int, int, int] | None = None  # transfer, range, matrix
        self._chain = Chain(())

    def scale(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Returns the scaled picture as a new frame object."""
        colors = int(frame.color_trc), int(frame.color_range), shown_matrix(frame.colorspace, frame.height)
        if colors != self._colors:
            self._colors = colors
            steps, table = to_sdr(colors[0], colors[1] == FULL_RANGE)
            # The size decides which matrix players use if none is declared. So the scaled picture declares one.
            plain = f"{self._size}:out_range=tv:out_color_matrix={colors[2]}", "format=yuv420p"
            self._chain = Chain((self._size, *steps) if steps else plain, table=table)
        scaled: av.VideoFrame = self._chain.push(frame)[0]
        return scaled


class Preparation:
    """Deinterlaces pictures, and rotates or mirrors them. Progressive, upright pictures are returned unchanged.

    Each input picture becomes one output picture with its time. An interlaced picture is returned when the next comes.
    """

    def __init__(self, timescale: int, threads: int = 1) -> None:
        self._timescale = timescale
        self._threads = threads
        self._interlaced = False
        self._rotation: tuple[str, ...] = ()
        self._chain: Chain | None = None
        self._held: dict[int, DecodedPicture] = {}

    def push(self, picture: DecodedPicture) -> list[DecodedPicture]:
        """Returns the pictures that are ready."""
        frame = picture.frame
        interlaced, rotation = self._interlaced or frame.interlaced_frame, _rotation_filters(frame)
        out: list[DecodedPicture] = []
        if interlaced != self._interlaced or rotation != self._rotation:
            out = self.flush()
            self._interlaced, self._rotation = interlaced, rotation
            steps = ["bwdif=mode=send_frame:deint=interlaced"] if interlaced else []
            steps += rotation
            self._chain = Chain(steps, self._timescale, self._threads) if steps else None
        if self._chain is None:
            return [*out, picture]
        self._held[picture.pts] = picture
        return out + self._restore_times(self._chain.push(frame))

    def flush(self) -> list[DecodedPicture]:
        """Returns the pictures that were delayed, and resets the filters."""
        out = [] if self._chain is None else self._restore_times(self._chain.flush())
        self._held.clear()
        self._interlaced, self._rotation, self._chain = False, (), None
        return out

    def _restore_times(self, frames: list[av.VideoFrame]) -> list[DecodedPicture]:
        out = []
        for frame in frames:
            # bwdif changes the time base to half ticks.
            assert frame.pts is not None and frame.time_base is not None, "filters set times"
            pts = round(Fraction(frame.pts) * frame.time_base * self._timescale)
            picture = self._held.pop(pts, None)
            if picture is not None:
                swaps_sides = any(step.startswith("transpose") for step in self._rotation)
                aspect = 1 / picture.aspect if swaps_sides else picture.aspect
                out.append(replace(picture, frame=frame, aspect=aspect))
        return out


def _rotation_filters(frame: Any) -> tuple[str, ...]:
    """Returns the filters that apply the frame's display matrix (ISO/IEC 14496-12 §6.2.2)."""
    try:
        entries = frame.side_data
    except ValueError:  # PyAV 18.1 does not know all types of side data, such as EXIF and those of Apple's MV-HEVC
        return _TURNS.get(frame.rotation % 360, ())
    for entry in entries:
        if entry.type.name == "DISPLAYMATRIX" and len(bytes(entry)) >= 36:
            a, b, _, c, d = struct.unpack_from("=5i", bytes(entry))
            return _ROTATIONS.get((_sign(a), _sign(b), _sign(c), _sign(d)), ())
    return ()


def _sign(fixed: int) -> int:
    """Returns the sign of a 16.16 number, 0 below one half. Only rotations by multiples of 90° are supported."""
    return (fixed > 0x8000) - (fixed < -0x8000)


class PreparedVideo:
    """Decodes one video track and prepares its pictures, in presentation order. Raises CodecFailed.

    on_error: called if a picture cannot be prepared; this picture is dropped. None: the error is raised.
    """

    def __init__(
        self, track: MediaTrack, threads: int = 1, on_error: Callable[[av.FFmpegError], None] | None = None
    ) -> None:
        self.decoder = VideoDecoder(track, threads)
        self._preparation = Preparation(track.timescale)
        self._on_error = on_error

    def decode(self, unit: AccessUnit) -> Iterator[DecodedPicture]:
        """Yields the pictures that are ready after this unit."""
        for picture in self.decoder.decode(unit):
            yield from self._prepare(picture)

    def flush(self) -> Iterator[DecodedPicture]:
        """Yields the pictures that were delayed, and resets decoder and filters."""
        for picture in self.decoder.flush():
            yield from self._prepare(picture)
        yield from self._preparation.flush()

    def _prepare(self, picture: DecodedPicture) -> list[DecodedPicture]:
        try:
            return self._preparation.push(picture)
        except av.FFmpegError as error:
            if self._on_error is None:
                raise
            self._on_error(error)
            return []
