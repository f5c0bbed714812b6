"""Matroska of a live sender, read back element by element and with PyAV."""

from __future__ import annotations

import io

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mkv import ebml as writer
from gateway.formats.mkv import writer as clusters
from gateway.formats.mkv.writer import can_carry, header
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support import ebml
from tests.support.builders import AUDIO, VIDEO
from tests.support.ebml import EbmlReader, Element, End, Start
from tests.support.elementary import elementary
from tests.support.feeding import feed_all_ways


def events(data: bytes) -> list[ebml.Event]:
    return feed_all_ways(lambda: (lambda reader: lambda d: list(reader.receive(d)))(EbmlReader()), data)


@given(st.integers(0, (1 << 56) - 2))
def test_element_sizes_use_the_fewest_bytes(length: int) -> None:
    written = writer.size(length)
    assert ebml.vint(written, 0, marker=False, most=8) == (length, len(written))
    assert len(written) == 1 or length >= (1 << 7 * (len(written) - 1)) - 1


def test_an_element_too_large_for_a_size_field_is_refused() -> None:
    with pytest.raises(ValueError, match="an element of"):
        writer.size((1 << 56) - 1)


def test_the_header_opens_an_endless_segment_with_video_first() -> None:
    head, segment, info, tracks = events(header([VIDEO, AUDIO]))
    assert isinstance(head, Element)
    assert head.id == ebml.EBML
    assert dict(ebml.children(head.body))[ebml.DOC_TYPE] == b"matroska"
    assert segment == Start(ebml.SEGMENT, None)
    assert isinstance(info, Element)
    assert ebml.number(dict(ebml.children(info.body))[ebml.TIMESTAMP_SCALE]) == 1_000_000
    assert isinstance(tracks, Element)
    entries = [dict(ebml.children(body)) for _, body in ebml.children(tracks.body)]
    assert [(ebml.number(e[ebml.TRACK_NUMBER]), e[ebml.CODEC_ID], e[ebml.CODEC_PRIVATE]) for e in entries] == [
        (1, b"V_MPEG4/ISO/AVC", VIDEO.config),
        (2, b"A_AAC", AUDIO.config),
    ]


def test_an_audio_track_without_video_keeps_its_number() -> None:
    tracks = events(header([AUDIO]))[3]
    assert isinstance(tracks, Element)
    assert ebml.number(dict(ebml.children(ebml.children(tracks.body)[0][1]))[ebml.TRACK_NUMBER]) == 2


@pytest.mark.parametrize("codec", [c for c in Codec if c not in (Codec.H264, Codec.H265, Codec.AAC)])
def test_other_codecs_are_refused(codec: Codec) -> None:
    track = MediaTrack(
        Kind.VIDEO if codec in (Codec.AV1, Codec.VP8, Codec.VP9) else Kind.AUDIO, codec, 1000, b"\x01" * 30
    )
    assert not can_carry(track)
    with pytest.raises(UnsupportedCodec):
        header([track])


@pytest.mark.parametrize("config", [b"", b"\x01", b"\x01" * 40, b"\x01\x64\x00\x1f\xff\xe0\x00"])
def test_a_configuration_that_cannot_be_read_is_refused(config: bytes) -> None:
    with pytest.raises(InvalidData):
        header([MediaTrack(Kind.VIDEO, Codec.H264, 1000, config)])


@given(st.integers(0, 1 << 62), st.integers(-32768, 32767), st.booleans(), st.binary(max_size=300))
def test_blocks_contain_track_time_and_key_flag(at: int, offset: int, key: bool, payload: bytes) -> None:
    data = header([VIDEO]) + clusters.cluster(at) + clusters.simple_block(1, offset, key, payload)
    start, time, block = list(EbmlReader().receive(data))[4:]
    assert start == Start(ebml.CLUSTER, None)
    assert isinstance(time, Element)
    assert ebml.number(time.body) == at
    assert isinstance(block, Element)
    assert block.body == b"\x81" + offset.to_bytes(2, "big", signed=True) + (b"\x80" if key else b"\0") + payload


def test_a_cluster_ends_at_the_start_of_the_next() -> None:
    data = header([VIDEO]) + clusters.cluster(1) + clusters.cluster(2)
    times = [Element(ebml.TIMESTAMP, at.to_bytes(8, "big"), b"\xe7\x88" + at.to_bytes(8, "big")) for at in (1, 2)]
    opened = Start(ebml.CLUSTER, None)
    assert events(data)[4:] == [opened, times[0], End(ebml.CLUSTER), opened, times[1]]


@pytest.mark.parametrize("name", ["h264", "h264-b", "h265"])
def test_pyav_reads_every_packet_with_its_time(name: str) -> None:
    film, sound = elementary(name), elementary("aac-mono")
    at = 1_700_000_000_000
    pieces = [header([film.track, sound.track]), clusters.cluster(at)]
    wanted: dict[str, list[tuple[int, bytes]]] = {"video": [], "audio": []}
    for number, source, kind in ((1, film, "video"), (2, sound, "audio")):
        for take in source.takes:
            ms = (take.dts + take.cts) * 1000 // source.track.timescale
            pieces.append(clusters.simple_block(number, ms, take.key, take.payload))
            wanted[kind].append((at + ms, take.payload))
    with av.open(io.BytesIO(b"".join(pieces)), format="matroska") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (160, 120)
        assert (audio.codec_context.sample_rate, audio.codec_context.channels) == (44100, 1)
        got: dict[str, list[tuple[int, bytes]]] = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size:
                got[packet.stream.type].append((packet.pts, bytes(packet)))
    assert got == wanted
