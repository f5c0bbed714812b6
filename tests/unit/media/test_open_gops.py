"""Open groups of pictures of H.264, for players that begin with one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import av
import pytest

from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.reader import parse_fragments
from gateway.formats.ts.muxer import TsMuxer
from gateway.media.open_gops import OpenGops
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.track import AccessUnit, MediaTrack
from gateway.outputs.clips.joiner import Joiner
from gateway.outputs.recording.cutter import PieceStart
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.outputs.recording.on_demand_recording import TsPiece
from tests.support import sources
from tests.support.hls_rules import Follower
from tests.support.segmented import WALL, cmaf
from tests.support.sources import Source
from tests.unit.packaging.test_hls_packager import follow

# Other coding tools change what is in the header of a slice.
ENCODERS = {
    "x264 as it is": "",
    "without CABAC, several slices": ":cabac=0:slices=3",
    "many references, weights": ":ref=5:bframes=5:weightp=2:weightb=1:b-adapt=0:direct=temporal",
    "old references are forgotten later": ":b-pyramid=strict:b-adapt=0",
}


def source(name: str) -> Source:
    encoder = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0", "-g", "30", "-bf", "3")
    more = ("-x264-params", f"open-gop=1{ENCODERS[name]}")
    return sources.source(*sources.pictures(), "-t", "8.5", *encoder, *more, "-pix_fmt", "yuv420p")


def prepared(taken: Source) -> list[AccessUnit]:
    assert taken.tracks.video is not None
    gops = OpenGops(taken.tracks.video)
    payloads = [(unit, gops.add(unit.payload, unit.dts + unit.cts, unit.key)) for unit in taken.units]
    return [replace(unit, payload=payload) for unit, payload in payloads if payload is not None]


def decoded(track: MediaTrack, units: Iterable[AccessUnit]) -> dict[int, str]:
    """Hashes of the pictures by their times. Raises av.FFmpegError where Chromium ends with an error."""
    codec = av.CodecContext.create("h264", "r")
    codec.extradata, codec.thread_count, codec.options = track.config, 1, {"err_detect": "explode"}

    def packets() -> Iterator[av.Packet | None]:
        for unit in units:
            packet = av.Packet(unit.payload)
            packet.pts, packet.dts = unit.dts + unit.cts, unit.dts
            yield packet
        yield None

    pictures = [picture for packet in packets() for picture in codec.decode(packet)]
    return {int(p.pts or 0): hashlib.sha256(b"".join(map(bytes, p.planes))).hexdigest() for p in pictures}


@pytest.mark.parametrize("name", ENCODERS)
def test_pictures_are_those_of_the_encoder_also_for_a_decoder_that_begins_at_any_key_frame(name: str) -> None:
    taken = source(name)
    track, units = taken.tracks.video, prepared(taken)
    assert track is not None and len(units) < len(taken.units)
    whole, kept = decoded(track, taken.units), {unit.dts + unit.cts for unit in units}
    keys, access = [n for n, unit in enumerate(units) if unit.key], random_access_of(track)
    assert len(keys) == 9 and all(access(units[n].payload) is RandomAccess.CLOSED for n in keys)
    for begin in keys:
        found = decoded(track, units[begin:])
        assert len(found) == len(units) - begin
        assert found == {at: picture for at, picture in whole.items() if at in kept and at in found}


def test_without_preparation_a_decoder_ends_with_an_error() -> None:
    taken = source("x264 as it is")
    track, failed = taken.tracks.video, 0
    assert track is not None
    keys = [n for n, unit in enumerate(taken.units) if unit.key]
    for begin in keys[1:]:
        try:
            decoded(track, taken.units[begin:])
        except av.FFmpegError:
            failed += 1
    assert failed > 3


@pytest.mark.parametrize("name", list(ENCODERS)[:3])
def test_parts_are_continuous_where_pictures_are_left_out(name: str) -> None:
    packager, taken, seen = cmaf(), source(name), dict[str, Follower]()
    packager.take_tracks(taken.tracks)
    for unit in taken.units:
        packager.take(unit)
        follow(packager, seen)
    (lane,) = packager.manifests.tracks
    end = 0
    for segment in lane.window:
        assert abs(segment.time - min(_shown(segment.body()))) <= 1
        for part in segment.parts:
            (fragment,) = parse_fragments(part.body())
            assert not end or fragment.base_decode_time == end
            length = sum(sample.duration for sample in fragment.samples)
            assert part.duration == pytest.approx(length / segment.clock, abs=1e-4)
            end = fragment.base_decode_time + length
    assert len(lane.window) == 4


def _shown(body: bytes) -> Iterator[int]:
    for part in parse_fragments(body):
        time = part.base_decode_time
        for sample in part.samples:
            yield time + sample.cts
            time += sample.duration


def recorded_mp4(taken: Source, units: list[AccessUnit]) -> bytes:
    piece, target = Mp4Piece(PieceStart(taken.tracks.video, None, units[0].payload, None, WALL, True)), io.BytesIO()
    for unit in units:
        piece.add_picture(unit.dts * 90, unit.cts * 90, unit.key, unit.payload)
    piece.close(None)
    finish(io.BytesIO(b"".join(piece.pop_data())), target)
    return target.getvalue()


def recorded_ts(taken: Source, units: list[AccessUnit]) -> bytes:
    start = PieceStart(taken.tracks.video, None, units[0].payload, None, WALL, True)
    piece = TsPiece(TsMuxer(taken.tracks.video, None), start)
    for unit in units:
        piece.add_picture(unit.dts * 90, unit.cts * 90, unit.key, unit.payload)
    piece.close(None)
    return b"".join(piece.pop_data()[0])


def clip(taken: Source, units: list[AccessUnit]) -> bytes:
    assert taken.tracks.video is not None
    media, track = io.BytesIO(), replace(taken.tracks.video, timescale=90_000)
    joiner = Joiner(media, WALL, WALL + 3)
    joiner.begin_piece(WALL, False)
    moved = [replace(unit, track=track, dts=unit.dts * 90, cts=unit.cts * 90) for unit in units]
    joiner.add(moved, has_video=True)
    head = joiner.finish()
    assert head is not None
    return head.data + media.getvalue()


@pytest.mark.parametrize("make", [recorded_mp4, recorded_ts, clip])
def test_stored_media_begin_with_pictures_that_can_be_decoded(
    make: Callable[[Source, list[AccessUnit]], bytes],
) -> None:
    taken = source("x264 as it is")
    begin = [n for n, unit in enumerate(taken.units) if unit.key][2:6]
    for at in begin:
        with av.open(io.BytesIO(make(taken, taken.units[at : at + 60]))) as film:
            codec = film.streams.video[0].codec_context
            codec.thread_count, codec.options = 1, {"err_detect": "explode"}
            assert len(list(film.decode(video=0))) > 50


def test_unreadable_pictures_are_not_changed() -> None:
    taken = source("x264 as it is")
    track = taken.tracks.video
    assert track is not None
    unknown, known = OpenGops(replace(track, config=track.config[:6])), OpenGops(track)
    second = next(n for n, unit in enumerate(taken.units) if n and unit.key)
    for unit in taken.units[second : second + 8]:
        at = unit.dts + unit.cts
        assert unknown.add(unit.payload, at, unit.key) in (None, unit.payload)
        for n in range(40):
            damaged = unit.payload[:n] + bytes([unit.payload[n] ^ 0xFF]) + unit.payload[n + 1 :]
            for payload in (unit.payload[:n], damaged):
                OpenGops(track).add(payload, at, unit.key)
                known.add(payload, at, unit.key)
