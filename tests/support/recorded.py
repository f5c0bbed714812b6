"""Recordings like those of browsers: hand-made WebM, and Chromium's recordings in tests/golden/browser."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from gateway.formats.media_recorder import RecordingReader
from gateway.formats.mkv import ebml
from gateway.formats.recording import Event, Packet, RecordingOpened

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "browser"
CAPTURES = ("h264.webm", "vp8.webm", "vp9.webm", "av1.webm", "h264.mp4", "av1.mp4", "opus.webm", "pcm.webm",
            "turn-h264.webm", "turn-vp8.webm", "turn-avc3.mp4")  # fmt: skip

# OpusHead of two channels without pre-skip, as the readers give it, too.
OPUS = bytes.fromhex("4f707573486561640102000080bb0000000000")


def capture(name: str) -> bytes:
    """A complete recording of Chromium."""
    return (GOLDEN / name).read_bytes()


def slices(name: str) -> list[bytes]:
    """The recording in its slices of 250 ms."""
    data, at, out = capture(name), 0, []
    for size in json.loads((GOLDEN / "slices.json").read_text())[name]:
        out.append(data[at : at + size])
        at += size
    assert at == len(data)
    return out


def read(data: bytes) -> tuple[RecordingOpened, list[Packet]]:
    """Reads a complete recording."""
    opened, *packets = RecordingReader().receive(data)
    assert isinstance(opened, RecordingOpened)
    assert all(isinstance(p, Packet) for p in packets)
    return opened, [p for p in packets if isinstance(p, Packet)]


def described(event: Event) -> tuple[object, ...]:
    """An event in a comparable and readable form."""
    if isinstance(event, RecordingOpened):
        return ("opened", event.video, event.audio, event.left_out)
    return (str(event.track.kind), event.time, event.cts, event.key, event.payload)


# ---- WebM ----


def head(doc_type: str = "webm") -> bytes:
    return ebml.element(ebml.EBML, ebml.text(ebml.DOC_TYPE, doc_type))


def segment(*children: bytes) -> bytes:
    """A segment of unknown size, so that clusters may follow."""
    return ebml.SEGMENT + b"\x01" + b"\xff" * 7 + b"".join(children)


def info(scale: int = 1_000_000) -> bytes:
    return ebml.element(ebml.INFO, ebml.uint(ebml.TIMESTAMP_SCALE, scale))


def video(number: int = 1, codec: str = "V_VP8", private: bytes = b"", *more: bytes) -> bytes:
    return _track(number, 1, codec, private, *more)


def audio(number: int = 2, codec: str = "A_OPUS", private: bytes = OPUS, *more: bytes, rate: float = 48000) -> bytes:
    sound = ebml.element(
        ebml.AUDIO,
        ebml.element(ebml.SAMPLING_FREQUENCY, struct.pack(">f", rate)),
        ebml.uint(ebml.CHANNELS, 2),
    )
    return _track(number, 2, codec, private, sound, *more)


def _track(number: int, kind: int, codec: str, private: bytes, *more: bytes) -> bytes:
    fields = [ebml.uint(ebml.TRACK_NUMBER, number), ebml.uint(ebml.TRACK_TYPE, kind), ebml.text(ebml.CODEC_ID, codec)]
    if private:
        fields.append(ebml.element(ebml.CODEC_PRIVATE, private))
    return ebml.element(ebml.TRACK_ENTRY, *fields, *more)


def tracks(*entries: bytes) -> bytes:
    return ebml.element(ebml.TRACKS, *entries)


def cluster(time: int, *children: bytes, sized: bool = False) -> bytes:
    body = ebml.uint(ebml.TIMESTAMP, time) + b"".join(children)
    return ebml.CLUSTER + (ebml.size(len(body)) if sized else ebml.UNKNOWN_SIZE) + body


def block(number: int, time: int, payload: bytes, *, key: bool = False, flags: int = 0) -> bytes:
    """The body of a block."""
    return ebml.size(number) + struct.pack(">hB", time, flags | (0x80 if key else 0)) + payload


def simple(number: int, time: int, payload: bytes, *, key: bool = False, flags: int = 0) -> bytes:
    return ebml.element(ebml.SIMPLE_BLOCK, block(number, time, payload, key=key, flags=flags))


def webm(*clusters: bytes, entries: tuple[bytes, ...] | None = None, scale: int = 1_000_000) -> bytes:
    """A live WebM of VP8 (track 1) and Opus (track 2)."""
    return head() + segment(info(scale), tracks(*(entries or (video(), audio()))), *clusters)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
