"""Data of media workers: frames and streams of units, or InvalidData, the same for any cuts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from gateway.media.errors import InvalidData
from gateway.media.timed_data import Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import Framer, StreamMessage
from gateway.workers.ladder_plan import LadderPlan, LadderStep

_MOST = 4096
_VIDEO = MediaTrack(
    Kind.VIDEO, Codec.H264, 1000, bytes.fromhex("0164001fffe1000467640c1f010004 68ebe3cb".replace(" ", ""))
)
_AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 44100, b"\x12\x10")
_TRACKS = Tracks(_VIDEO, _AUDIO, 3, {"width": 1280.0, "title": "ü", "list": [True, None, {"a": "b"}]})
_BODIES = [
    (StreamMessage.TRACKS, wire.encode_tracks(_TRACKS)),
    (StreamMessage.UNIT, wire.encode_unit(AccessUnit(_VIDEO, 2**40, -40, True, 1.7e9, b"\0\0\0\1e"), 5)),
    (StreamMessage.UNIT, wire.encode_unit(AccessUnit(_AUDIO, 0, 0, True, 1.7e9, b""))),
    (StreamMessage.TIMED, wire.encode_timed(TimedData(5, Script("onCuePoint", b"\x02\0\1a")))),
    (StreamMessage.END, wire.encode_end(0x8000)),
    (16, wire.write_json(asdict(LadderPlan((LadderStep("360p", 640, 360, 400_000, 64_000, 1.5),))))),
]


def seeds() -> list[bytes]:
    """Frames of every kind, alone and in a row."""
    frames = [wire.frame(kind, body) for kind, body in _BODIES]
    return [*frames, b"".join(frames)]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module; data that is written and read again stays the same."""
    whole, single = _frames(data, len(data) or 1), _frames(data, 1)
    assert whole == single
    tracks: Tracks | None = _TRACKS
    for kind, body in (whole or [])[:200]:
        with suppress(InvalidData):
            assert 0 <= wire.destination(body) < 1 << 16
        with suppress(InvalidData):
            if kind == StreamMessage.TRACKS:
                tracks = wire.decode_tracks(body)
                again = wire.decode_tracks(wire.encode_tracks(tracks))
                assert repr(again) == repr(tracks)  # a NaN equals nothing
            elif kind == StreamMessage.UNIT:
                unit = wire.decode_unit(body, tracks)
                assert repr(wire.decode_unit(wire.encode_unit(unit), tracks)) == repr(unit)
            elif kind == StreamMessage.TIMED:
                timed = wire.decode_timed(body)
                assert wire.decode_timed(wire.encode_timed(timed)) == timed
            else:
                plan = wire.decode_record(LadderPlan, body)
                assert repr(wire.decode_record(LadderPlan, wire.write_json(asdict(plan)))) == repr(plan)


def _frames(data: bytes, size: int) -> list[tuple[int, bytes]] | None:
    """Returns the frames, or None if the stream is refused."""
    framer = Framer(_MOST)
    frames: list[tuple[int, bytes]] = []
    try:
        for at in range(0, len(data), size):
            frames += framer.receive(data[at : at + size])
            assert framer.pending <= _MOST + 4
    except InvalidData:
        return None
    return frames
