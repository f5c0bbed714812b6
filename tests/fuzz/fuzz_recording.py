"""Recordings pushed by a browser: lanes and samples, or InvalidData, the same for any cuts; never more than came."""

from __future__ import annotations

from gateway.formats.media_recorder import RecordingReader
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.formats.recording import Event, Packet, RecordingOpened
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import Codec, Kind
from tests.support.builders import AUDIO, VIDEO
from tests.support.recorded import (
    audio,
    block,
    capture,
    cluster,
    described,
    ebml,
    head,
    info,
    segment,
    simple,
    tracks,
    video,
    webm,
)


def seeds() -> list[bytes]:
    """Returns hand-made recordings of both containers, and the beginnings of recordings of Chromium."""
    group = ebml.element(b"\xa0", ebml.element(b"\xa1", block(1, 7, b"group")), ebml.uint(b"\xfb", 1))
    sounds = simple(2, 0, b"\xfc\xff\xfe") + simple(2, 20, b"\xfc\xff\xfe", key=True)
    short = webm(cluster(0, simple(1, 0, b"picture", key=True), sounds), cluster(40, group, sized=True))
    long = head("matroska") + segment(
        ebml.element(b"\xec", bytes(9)), info(1000),
        tracks(video(3, "V_MPEG4/ISO/AVC", VIDEO.config), audio(4, "A_AAC", b"\x12\x10")),
        cluster(1 << 33, simple(3, -5, b"\0\0\0\1e", key=True), simple(4, 3, b"raw")),
    )  # fmt: skip
    pictures = [
        Mp4Sample(3000, 6000 - 3000 * (n % 3), n == 0, b"\0\0\0\5" + bytes((0x61, n, 1, 1, 1))) for n in range(4)
    ]
    heard = [Mp4Sample(1024, 0, True, bytes((n,)) * 12) for n in range(4)]
    movie = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(AUDIO, 2, 44_100)])
    mp4 = movie + fragment(1, 1, 0, pictures, styp=True) + fragment(2, 2, 0, heard)
    return [short, short + long, long, mp4, mp4 + mp4, capture("h264.webm")[:4000], capture("h264.mp4")[:5000]]


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module."""
    whole, single = _events(data, len(data) or 1), _events(data, 1)
    # What is refused is refused at the same place: a cut only decides how much of it came out before.
    shorter, longer = sorted((whole[0], single[0]), key=len)
    assert [described(e) for e in longer[: len(shorter)]] == [described(e) for e in shorter]
    assert whole[1] == single[1]
    assert whole[1] or len(whole[0]) == len(single[0])
    samples: NalSamples | None = None
    for event in whole[0]:
        if isinstance(event, RecordingOpened):
            lane = event.video
            samples = NalSamples(Codec.H264, lane.config) if lane is not None and lane.coding is Codec.H264 else None
        elif samples is not None and event.track.kind is Kind.VIDEO:
            try:
                sample = samples.take(event.payload, event.key)
            except InvalidData:
                continue
            assert sample is None or len(sample.payload) <= 4 * len(event.payload)


def _events(data: bytes, size: int) -> tuple[list[Event], bool]:
    """Returns the output, and whether the rest was refused."""
    reader = RecordingReader()
    found: list[Event] = []
    try:
        for at in range(0, len(data), size):
            found += reader.receive(data[at : at + size])
    except InvalidData:
        return found, True
    assert sum(len(e.payload) for e in found if isinstance(e, Packet)) <= len(data)
    return found, False
