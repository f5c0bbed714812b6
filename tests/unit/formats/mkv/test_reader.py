"""Live WebM and Matroska in pieces of any size: recordings of Chromium, other valid forms, and invalid data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mkv import ebml
from gateway.formats.mkv.entries import MAX_TRACKS
from gateway.formats.mkv.reader import MAX_SKIPPED, MatroskaReader
from gateway.formats.recording import Event, ForeignCodec, Packet, RecordingOpened
from gateway.media import opus
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind
from tests.support.builders import VIDEO
from tests.support.feeding import feed_all_ways
from tests.support.recorded import (
    OPUS,
    audio,
    block,
    capture,
    cluster,
    described,
    head,
    info,
    pieces,
    read,
    segment,
    simple,
    tracks,
    video,
    webm,
)

PICTURE = simple(1, 0, b"picture", key=True)


def opened(data: bytes) -> RecordingOpened:
    event = MatroskaReader().receive(data)[0]
    assert isinstance(event, RecordingOpened)
    return event


def packets(data: bytes) -> list[Packet]:
    return [e for e in MatroskaReader().receive(data) if isinstance(e, Packet)]


def times(data: bytes) -> list[int]:
    return [p.time for p in packets(data)]


def fed(data: bytes) -> list[Event]:
    return feed_all_ways(lambda: MatroskaReader().receive, data)


# ---- what Chromium sends ----


@pytest.mark.parametrize("name", ["h264.webm", "turn-vp8.webm", "opus.webm"])
def test_a_recording_is_read_equally_in_pieces_of_any_size(name: str) -> None:
    data = capture(name)[:12_000]
    events = fed(data)
    assert isinstance(events[0], RecordingOpened)
    assert sum(isinstance(e, Packet) for e in events) > 20


@pytest.mark.parametrize(
    ("name", "coding"),
    [("h264.webm", Codec.H264), ("vp8.webm", Codec.VP8), ("vp9.webm", Codec.VP9), ("av1.webm", Codec.AV1)],
)
def test_all_tracks_and_samples_of_chromium_recordings_are_read(name: str, coding: Codec) -> None:
    found, samples = read(capture(name))
    assert found.video is not None
    assert found.audio is not None
    assert (found.video.coding, found.video.timescale, found.video.has_decode_times) == (coding, 1000, False)
    assert (found.audio.coding, found.audio.config) == (
        Codec.OPUS,
        opus.without_pre_skip(OPUS[:9] + b"\x01" + OPUS[10:]),
    )
    pictures = [p for p in samples if p.track is found.video]
    assert 57 <= len(pictures) <= 61
    assert 48 <= len(samples) - len(pictures) <= 52
    assert pictures[0].key
    assert sum(p.key for p in pictures) == 3


def test_pcm_sound_of_chromium_has_the_right_rate_and_channels() -> None:
    found, samples = read(capture("pcm.webm"))
    assert found.audio is not None
    assert (found.audio.coding, found.audio.rate, found.audio.channels) == (ForeignCodec.PCM_F32, 48000, 1)
    assert {len(p.payload) for p in samples} == {4 * 480}


def test_a_sample_is_given_as_soon_as_its_last_byte_arrives() -> None:
    data = webm(cluster(0, PICTURE))
    reader = MatroskaReader()
    assert [type(e) for e in reader.receive(data[:-1])] == [RecordingOpened]
    (packet,) = reader.receive(data[-1:])
    assert isinstance(packet, Packet)
    assert packet.payload == b"picture"


# ---- forms ----


def test_clusters_of_known_and_unknown_size_are_read_equally() -> None:
    unknown = webm(cluster(5, PICTURE), cluster(60, simple(1, 1, b"b")))
    known = webm(cluster(5, PICTURE, sized=True), cluster(60, simple(1, 1, b"b"), sized=True))
    assert [described(e) for e in fed(unknown)] == [described(e) for e in fed(known)]
    assert times(unknown) == [5, 61]


def test_a_block_group_without_reference_is_a_key_frame() -> None:
    key = ebml.element(b"\xa0", ebml.element(b"\xa1", block(1, 3, b"key")))
    other = ebml.element(b"\xa0", ebml.element(b"\xa1", block(1, 9, b"other")), ebml.uint(b"\xfb", 6))
    assert [(p.payload, p.time, p.key) for p in packets(webm(cluster(10, key, other)))] == [
        (b"key", 13, True), (b"other", 19, False),
    ]  # fmt: skip


def test_negative_block_times_are_subtracted_from_the_cluster_time() -> None:
    assert times(webm(cluster(100, simple(1, -40, b"early", key=True)))) == [60]


@pytest.mark.parametrize(
    ("scale", "timescale", "time"),
    [(1_000_000, 1000, 1010), (2_000_000, 1000, 2020), (1_000, 1_000_000, 1010), (20_833, 1_000_000, 21_041)],
)
def test_timestamps_of_any_scale_become_milliseconds_or_microseconds(scale: int, timescale: int, time: int) -> None:
    (packet,) = packets(webm(cluster(1000, simple(1, 10, b"p", key=True)), scale=scale))
    assert (packet.track.timescale, packet.time) == (timescale, time)


def test_the_codec_delay_is_subtracted_from_sound_times() -> None:
    early = audio(2, "A_OPUS", OPUS, ebml.uint(b"\x56\xaa", 6_500_000))
    data = webm(cluster(100, simple(2, 0, b"\xfc")), entries=(early,))
    assert times(data) == [93]


def test_the_opus_configuration_has_no_pre_skip() -> None:
    skipping = opus.head_bytes(replace(opus.parse_head(OPUS), pre_skip=3840))
    found = opened(webm(cluster(0), entries=(audio(2, "A_OPUS", skipping),)))
    assert found.audio is not None
    assert opus.parse_head(found.audio.config).pre_skip == 0


def test_unneeded_elements_are_skipped_at_any_place() -> None:
    void, tags, cues = (ebml.element(id, bytes(300)) for id in (b"\xec", b"\x12\x54\xc3\x67", b"\x1c\x53\xbb\x6b"))
    data = head() + segment(void, info(), tags, tracks(void, video())) + cues + cluster(0, void, PICTURE, void) + tags
    assert [p.payload for p in packets(data)] == [b"picture"]
    fed(data)


def test_repeated_track_headers_do_not_start_a_new_recording() -> None:
    entries = tracks(video())
    data = head() + segment(info(), entries, cluster(0, PICTURE), entries, cluster(40, simple(1, 0, b"next")))
    assert [type(e) for e in MatroskaReader().receive(data)] == [RecordingOpened, Packet, Packet]


def test_a_second_recording_in_one_push_is_opened() -> None:
    first, second = webm(cluster(9000, PICTURE)), webm(cluster(0, simple(3, 0, b"\xfc")), entries=(audio(3),))
    events = fed(first + second)
    assert [type(e) for e in events] == [RecordingOpened, Packet, RecordingOpened, Packet]
    assert isinstance(events[2], RecordingOpened)
    assert events[2].video is None
    assert [p.time for p in events if isinstance(p, Packet)] == [9000, 0]


def test_only_the_first_video_and_audio_tracks_are_used() -> None:
    entries = (video(1), video(2, "V_VP9"), audio(3), audio(4, "A_VORBIS", b"\x02\x01\x01abc"))
    found, samples = read(webm(cluster(0, *(simple(n, 0, b"%d" % n, key=True) for n in (1, 2, 3, 4))), entries=entries))
    assert found.video is not None
    assert found.video.coding is Codec.VP8
    assert [p.payload for p in samples] == [b"1", b"3"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (video(1, "V_THEORA"), "V_THEORA"),
        (video(1, "V_VP8", b"", ebml.element(b"\x6d\x80")), "compressed or encrypted"),
        (video(1, "A_OPUS"), "not known"),
        (audio(1, "A_AAC", b""), "AudioSpecificConfig"),
        (audio(1, "A_OPUS", b"OpusHead"), "OpusHead"),
        (audio(1, "A_PCM/INT/LIT", b""), "A_PCM"),
        (audio(1, "A_VORBIS", b"\x02"), "Vorbis"),
        (audio(1, "A_VORBIS", b"\x02\x01\x01abc", rate=1e12), "0 Hz"),
        (video(1, "V_MPEG4/ISO/AVC", b"\x00"), "avcC"),
    ],
)
def test_an_unusable_track_is_left_out_with_a_reason(entry: bytes, says: str) -> None:
    found = opened(webm(cluster(0), entries=(entry,)))
    assert (found.video, found.audio) == (None, None)
    assert says in found.left_out[0]


@pytest.mark.parametrize(
    ("codec", "private", "coding"),
    [
        ("V_MPEG4/ISO/AVC", VIDEO.config, Codec.H264),
        ("V_MPEG4/ISO/AVC", b"", Codec.H264),
        ("V_MPEGH/ISO/HEVC", b"", Codec.H265),
        ("V_AV1", b"", Codec.AV1),
        ("V_VP9", b"\x01\x01\x00", Codec.VP9),
    ],
)
def test_the_video_codec_and_its_configuration_are_read(codec: str, private: bytes, coding: Codec) -> None:
    found = opened(webm(cluster(0), entries=(video(1, codec, private),)))
    assert found.video is not None
    assert found.video.coding is coding
    assert found.video.config == (b"" if coding is Codec.VP9 else private)


def test_audio_codecs_keep_their_configuration() -> None:
    def config(codec: str, private: bytes) -> tuple[object, bytes]:
        found = opened(webm(cluster(0), entries=(audio(1, codec, private),)))
        assert found.audio is not None
        assert found.audio.kind is Kind.AUDIO
        return found.audio.coding, found.audio.config

    assert config("A_AAC", b"\x12\x10") == (Codec.AAC, b"\x12\x10")
    assert config("A_MPEG/L3", b"") == (Codec.MP3, b"")
    assert config("A_VORBIS", b"\x02\x01\x01abc") == (ForeignCodec.VORBIS, b"\x02\x01\x01abc")


# ---- what nobody should send ----


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (head("mkvish"), "neither WebM nor Matroska"),
        (head() + segment(cluster(0, PICTURE)), "before the tracks"),
        (webm() + PICTURE, "outside of a cluster"),
        (webm(ebml.CLUSTER + ebml.UNKNOWN_SIZE, PICTURE), "outside of a cluster"),
        (webm(cluster(0, simple(1, 0, b"laced", flags=2))), "lacing"),
        (webm(cluster(0, ebml.element(ebml.SIMPLE_BLOCK, b"\x81"))), "a block of 1 bytes"),
        (webm(cluster(0, ebml.element(ebml.SIMPLE_BLOCK, b""))), "a block of 0 bytes"),
        (webm(cluster((1 << 64) - 1, PICTURE)), "a block at"),
        (webm(ebml.CLUSTER + ebml.UNKNOWN_SIZE, ebml.TIMESTAMP + b"\x89" + bytes(9)), "9 bytes"),
        (head() + b"\x00", "not the start of an element"),
        (head() + segment(info(0)), "ticks of 0 ns"),
        (head() + ebml.TRACKS + ebml.UNKNOWN_SIZE, "unknown size"),
        (head() + ebml.TRACKS + ebml.size(1 << 40), "bytes"),
        (head() + b"\xec" + ebml.size(MAX_SKIPPED + 1), "bytes"),
        (webm(cluster(0, ebml.SIMPLE_BLOCK + ebml.size(1 << 30))), "bytes"),
        (head() + segment(ebml.element(ebml.INFO, b"\x2a\xd7\xb1\x8f")), "exceeds its parent"),
        (head() + b"\xec\x00", "more than eight bytes"),
    ],
)
def test_invalid_or_oversized_data_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidData, match=says):
        MatroskaReader().receive(data)


def test_too_many_tracks_are_refused() -> None:
    with pytest.raises(InvalidData, match="more than 1024 elements"):
        MatroskaReader().receive(webm(cluster(0), entries=tuple(video(n + 1) for n in range(10_000))))
    with pytest.raises(InvalidData, match=f"{MAX_TRACKS + 1} tracks"):
        MatroskaReader().receive(webm(cluster(0), entries=tuple(video(n + 1) for n in range(MAX_TRACKS + 1))))


def test_a_large_declared_size_allocates_no_memory() -> None:
    reader = MatroskaReader()
    reader.receive(webm(ebml.CLUSTER + ebml.UNKNOWN_SIZE + ebml.uint(ebml.TIMESTAMP, 0)))
    assert reader.receive(ebml.SIMPLE_BLOCK + ebml.size(7_999_999)) == []
    assert len(reader._buffer) < 20


@given(st.binary(max_size=200))
def test_any_bytes_after_a_valid_header_are_read_or_refused(data: bytes) -> None:
    reader = MatroskaReader()
    reader.receive(webm(cluster(0, PICTURE)))
    try:
        for piece in pieces(data, 3):
            reader.receive(piece)
    except InvalidData:
        return
    assert len(reader._buffer) <= len(data)
