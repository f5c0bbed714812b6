"""`MediaDemuxer` turns FLV bodies into tracks, frames, refusals or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.flv.demuxer import MediaDemuxer, track_number
from gateway.formats.flv.tag import TrackStart, Unsupported
from gateway.media.errors import InvalidData
from gateway.media.opus import parse_head
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

AVCC = b"\x01\x64\x00\x1f\xff\xe1\x00\x00"
HVCC = b"\x01" + bytes(22)
AV1C = b"\x81\x00\x0c\x00"
VPCC = b"\x00\x0a\x82\x02\x02\x02\x00\x00"
ASC = b"\x12\x10"
OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"


def video_track(codec: Codec, config: bytes) -> MediaTrack:
    return MediaTrack(Kind.VIDEO, codec, 1000, config)


def audio_track(codec: Codec, config: bytes) -> MediaTrack:
    return MediaTrack(Kind.AUDIO, codec, 1000, config)


def avc(demux: MediaDemuxer | None = None) -> MediaDemuxer:
    demux = demux or MediaDemuxer()
    assert demux.read_video(0, b"\x17\0\0\0\0" + AVCC) == video_track(Codec.H264, AVCC)
    return demux


def ex(frame: int, packet: int, fourcc: bytes, rest: bytes = b"") -> bytes:
    return bytes((0x80 | frame << 4 | packet,)) + fourcc + rest


def test_legacy_h264_frames_are_read() -> None:
    demux = avc()
    track = demux.video_track
    assert demux.read_video(40, b"\x17\x01\x00\x00\x50nalu", 1.5) == AccessUnit(track, 40, 80, True, 1.5, b"nalu")
    assert demux.read_video(80, b"\x27\x01\x00\x00\x00nalu") == AccessUnit(track, 80, 0, False, 0.0, b"nalu")
    assert demux.read_video(80, b"\x37\x01\x00\x00\x00nalu") == AccessUnit(track, 80, 0, False, 0.0, b"nalu")


def test_composition_time_is_signed() -> None:
    unit = avc().read_video(0, b"\x27\x01\xff\xff\xd8x")
    assert isinstance(unit, AccessUnit)
    assert unit.cts == -40


def test_legacy_hevc_with_codec_id_12_is_read() -> None:
    demux = MediaDemuxer()
    track = demux.read_video(0, b"\x1c\0\0\0\0" + HVCC)
    assert track == video_track(Codec.H265, HVCC)
    assert demux.read_video(0, b"\x1c\x01\0\0\x21x") == AccessUnit(track, 0, 33, True, 0.0, b"x")


def test_legacy_av1_with_codec_id_13_is_read() -> None:
    demux = MediaDemuxer()
    track = demux.read_video(0, b"\x1d\0\0\0\0" + AV1C)
    assert track == video_track(Codec.AV1, AV1C)
    assert demux.read_video(0, b"\x1d\x01\0\0\0x") == AccessUnit(track, 0, 0, True, 0.0, b"x")
    assert demux.read_video(40, b"\x2d\x01\0\0\x21x") == AccessUnit(track, 40, 33, False, 0.0, b"x")


@pytest.mark.parametrize("channels", [1, 2])
def test_opus_with_sound_format_13_and_nothing_else_is_read(channels: int) -> None:
    demux, first = MediaDemuxer(), bytes((0xDE | channels - 1,))  # as ZLMediaKit sends it
    started = demux.read_audio(0, first + b"\xfcx")
    assert isinstance(started, TrackStart) and started.track.codec is Codec.OPUS
    assert parse_head(started.track.config).channels == channels
    assert started.unit.payload == b"\xfcx"
    for packet in (b"\1x", b"\0x"):
        assert demux.read_audio(20, first + packet) == AccessUnit(started.track, 20, 0, True, 0.0, packet)
    assert demux.read_audio(40, first) is None


def test_opus_with_sound_format_13_and_a_packet_type_is_read() -> None:
    demux = MediaDemuxer()  # as the library media-server sends it
    track = demux.read_audio(0, b"\xdf\0" + OPUS_HEAD)
    assert track == audio_track(Codec.OPUS, OPUS_HEAD)
    assert demux.read_audio(20, b"\xdf\1\xfcx") == AccessUnit(track, 20, 0, True, 0.0, b"\xfcx")
    assert [demux.read_audio(40, body) for body in (b"\xdf", b"\xdf\1", b"\xdf\2x")] == [None] * 3
    assert demux.read_audio(40, b"\xdf\0" + OPUS_HEAD) is None


def test_only_a_changed_sequence_header_gives_a_new_track() -> None:
    demux = avc()
    assert demux.read_video(10, b"\x17\0\0\0\0" + AVCC) is None
    changed = AVCC[:1] + b"\x42" + AVCC[2:]
    assert demux.read_video(20, b"\x17\0\0\0\0" + changed) == video_track(Codec.H264, changed)


def test_frames_before_their_sequence_header_are_dropped_and_counted() -> None:
    demux = MediaDemuxer()
    assert demux.read_video(0, b"\x27\x01\0\0\0x") is None
    assert demux.read_audio(0, b"\xaf\x01x") is None
    assert demux.read_video(0, ex(1, 1, b"hvc1", b"\0\0\0x")) is None
    assert demux.read_audio(0, b"\x91Opusx") is None
    assert demux.dropped.total() == 4


def test_frames_of_another_codec_than_the_track_are_dropped() -> None:
    demux = avc()
    assert demux.read_video(0, b"\x1c\x01\0\0\0x") is None
    assert demux.read_audio(0, b"\x90Opus" + OPUS_HEAD) == audio_track(Codec.OPUS, OPUS_HEAD)
    assert demux.read_audio(0, b"\xaf\x01xy") is None
    assert demux.dropped.total() == 2


@pytest.mark.parametrize(
    "body", [b"", b"\x17\x02\0\0\0", b"\x17\x01\0\0\0", b"\x57\x00", b"\xd0\x00", ex(1, 2, b"avc1"), ex(1, 3, b"avc1")]
)
def test_video_without_a_picture_gives_no_frame(body: bytes) -> None:
    assert avc().read_video(0, body) is None


@pytest.mark.parametrize("body", [b"", b"\xaf\x01", b"\x2f", b"\x92mp4a", b"\x94mp4a\x01\x02"])
def test_audio_without_sound_gives_no_frame(body: bytes) -> None:
    demux = MediaDemuxer()
    demux.read_audio(0, b"\xaf\x00" + ASC)
    assert demux.read_audio(0, body) is None


@pytest.mark.parametrize(
    ("fourcc", "codec", "config", "with_cts"),
    [
        (b"avc1", Codec.H264, AVCC, True),
        (b"hvc1", Codec.H265, HVCC, True),
        (b"av01", Codec.AV1, AV1C, False),
        (b"vp09", Codec.VP9, VPCC, False),
        (b"vp08", Codec.VP8, VPCC, False),
    ],
)
def test_enhanced_video_frames_are_read(fourcc: bytes, codec: Codec, config: bytes, with_cts: bool) -> None:
    demux = MediaDemuxer()
    track = demux.read_video(0, ex(1, 0, fourcc, config))
    assert track == video_track(codec, config)
    cts = b"\x00\x00\x21" if with_cts else b""
    assert demux.read_video(1, ex(1, 1, fourcc, cts + b"x")) == AccessUnit(
        track, 1, 33 if with_cts else 0, True, 0.0, b"x"
    )
    assert demux.read_video(2, ex(2, 3, fourcc, b"x")) == AccessUnit(track, 2, 0, False, 0.0, b"x")


@pytest.mark.parametrize("before", [b"", b"\x01", b"\x01\0\0\0"], ids=["record", "version", "box"])
@pytest.mark.parametrize(("fourcc", "codec"), [(b"vp09", Codec.VP9), (b"vp08", Codec.VP8)])
def test_a_box_header_before_the_vpcc_record_is_removed(before: bytes, fourcc: bytes, codec: Codec) -> None:
    assert MediaDemuxer().read_video(0, ex(1, 0, fourcc, before + VPCC)) == video_track(codec, VPCC)


def test_empty_sequence_start_waits_for_the_real_one() -> None:
    demux = MediaDemuxer()
    assert demux.read_video(0, ex(1, 0, b"av01")) is None
    assert demux.read_audio(0, b"\x90Opus") is None
    assert demux.read_video(0, ex(1, 0, b"av01", AV1C)) == video_track(Codec.AV1, AV1C)


def test_video_metadata_gives_no_frame() -> None:
    demux = avc()
    assert demux.read_video(0, ex(5, 4, b"avc1", b"\x02\x00\x09colorInfo")) is None


def test_mod_ex_prefixes_of_video_are_skipped() -> None:
    demux = avc()
    nano = b"\x97" + b"\x02\x00\x01\x02" + b"\x01" + b"avc1" + b"\x00\x00\x00x"
    assert demux.read_video(5, nano) == AccessUnit(demux.video_track, 5, 0, True, 0.0, b"x")
    twice = b"\x97" + b"\x00\xaa\x07" + b"\x00\xbb\x03" + b"avc1x"
    assert demux.read_video(5, twice) == AccessUnit(demux.video_track, 5, 0, True, 0.0, b"x")
    long = b"\x97\xff\x01\x2b" + bytes(300) + b"\x03" + b"avc1x"
    assert demux.read_video(5, long) == AccessUnit(demux.video_track, 5, 0, True, 0.0, b"x")


def test_mod_ex_prefixes_of_audio_are_skipped() -> None:
    demux = MediaDemuxer()
    demux.read_audio(0, b"\x90Opus" + OPUS_HEAD)
    unit = demux.read_audio(5, b"\x97\x02\0\0\x01\x01Opusx")
    assert unit == AccessUnit(demux.audio_track, 5, 0, True, 0.0, b"x")


def test_a_multitrack_body_with_only_track_0_is_read() -> None:
    demux = MediaDemuxer()
    track = demux.read_video(0, b"\x96\x00hvc1\x00" + HVCC)
    assert track == video_track(Codec.H265, HVCC)
    assert demux.read_video(1, b"\xa6\x03hvc1\x00x") == AccessUnit(track, 1, 0, False, 0.0, b"x")
    sound = demux.read_audio(0, b"\x95\x00Opus\x00" + OPUS_HEAD)
    assert sound == audio_track(Codec.OPUS, OPUS_HEAD)


def one_track(frame: int, packet: int, fourcc: bytes, track: int, rest: bytes) -> bytes:
    return bytes((0x80 | frame << 4 | 6, packet)) + fourcc + bytes((track,)) + rest


def sized(track: int, data: bytes) -> bytes:
    return bytes((track,)) + len(data).to_bytes(3, "big") + data


def test_one_track_bodies_belong_to_the_given_track() -> None:
    demux = avc()
    track = video_track(Codec.H265, HVCC)
    assert demux.read_video(0, one_track(1, 0, b"hvc1", 1, HVCC)) == [(1, track)]
    assert demux.read_video(0, one_track(1, 0, b"hvc1", 1, HVCC)) is None
    unit = AccessUnit(track, 7, 33, True, 1.5, b"x")
    assert demux.read_video(7, one_track(1, 1, b"hvc1", 1, b"\0\0\x21x"), 1.5) == [(1, unit)]
    assert demux.read_video(7, one_track(1, 2, b"hvc1", 1, b"")) is None  # end of its sequence
    assert demux.video_track == video_track(Codec.H264, AVCC)
    assert demux.others[track_number(Kind.VIDEO, 1)].video_track == track


def test_a_body_of_many_tracks_with_one_codec_is_read() -> None:
    demux = MediaDemuxer()
    other = AVCC[:1] + b"\x42" + AVCC[2:]
    first, second = video_track(Codec.H264, AVCC), video_track(Codec.H264, other)
    assert demux.read_video(0, b"\x96\x10avc1" + sized(0, AVCC) + sized(3, other)) == [(0, first), (3, second)]
    frames = b"\xa6\x11avc1" + sized(3, b"\xff\xff\xd8low") + sized(0, b"\0\0\0high")
    assert demux.read_video(9, frames) == [
        (3, AccessUnit(second, 9, -40, False, 0.0, b"low")),
        (0, AccessUnit(first, 9, 0, False, 0.0, b"high")),
    ]


def test_a_body_of_many_tracks_with_many_codecs_is_read() -> None:
    demux = MediaDemuxer()
    heads = b"\x95\x20mp4a" + sized(0, ASC) + b"Opus" + sized(2, OPUS_HEAD)
    aac, opus = audio_track(Codec.AAC, ASC), audio_track(Codec.OPUS, OPUS_HEAD)
    assert demux.read_audio(0, heads) == [(0, aac), (2, opus)]
    frames = b"\x95\x21mp4a" + sized(0, b"a") + b"Opus" + sized(2, b"o") + b"ac-3" + sized(5, b"c")
    ac3 = audio_track(Codec.AC3, b"")
    assert demux.read_audio(4, frames) == [
        (0, AccessUnit(aac, 4, 0, True, 0.0, b"a")),
        (2, AccessUnit(opus, 4, 0, True, 0.0, b"o")),
        (5, TrackStart(ac3, AccessUnit(ac3, 4, 0, True, 0.0, b"c"))),
    ]


def test_a_multitrack_body_after_a_mod_ex_prefix_is_read() -> None:
    demux = MediaDemuxer()
    body = b"\x97\x02\0\0\x01\x06" + b"\x00avc1\x01" + AVCC
    assert demux.read_video(0, body) == [(1, video_track(Codec.H264, AVCC))]


def test_each_track_needs_its_own_sequence_header() -> None:
    demux = avc()
    assert demux.read_video(0, one_track(1, 3, b"avc1", 1, b"x")) is None
    assert demux.others[track_number(Kind.VIDEO, 1)].dropped.total() == 1
    assert demux.dropped.total() == 0


def test_a_ninth_track_of_a_kind_is_reported_once_as_unsupported() -> None:
    demux = avc()
    for track in range(1, 8):
        assert demux.read_video(0, one_track(1, 0, b"avc1", 10 * track, AVCC)) == [
            (10 * track, video_track(Codec.H264, AVCC))
        ]
    ninth = one_track(1, 0, b"avc1", 1, AVCC)
    assert demux.read_video(0, ninth) == [(1, Unsupported(Kind.VIDEO, "more than 8 video tracks"))]
    assert demux.read_video(0, ninth) is None
    assert demux.read_audio(0, b"\x95\x00mp4a\x09" + ASC) == [(9, audio_track(Codec.AAC, ASC))]


@pytest.mark.parametrize(
    "body",
    [
        b"\x96\x30avc1\x00",  # a multitrack type that does not exist
        b"\x96\x00avc1",
        b"\x96\x10avc1\x00\x00\x00",
        b"\x96\x10avc1\x00\x00\x00\x09x",
        b"\x96\x10avc1" + sized(0, AVCC) + b"\x01",
        b"\x96\x20avc1" + sized(0, AVCC) + b"hv",
        b"\x96\x10avc1" + 17 * sized(0, b""),
    ],
)
def test_broken_multitrack_bodies_raise_invalid_data(body: bytes) -> None:
    demux = avc()
    with pytest.raises(InvalidData):
        demux.read_video(0, body)
    assert isinstance(demux.read_video(0, b"\x27\x01\0\0\0x"), AccessUnit)


@given(st.lists(st.tuples(st.integers(0, 7), st.binary(min_size=1, max_size=30)), min_size=1, max_size=8))
def test_the_three_multitrack_types_carry_the_same_frames(frames: list[tuple[int, bytes]]) -> None:
    readers = [MediaDemuxer() for _ in range(3)]
    for demux in readers:
        for track in range(8):
            demux.read_video(0, one_track(1, 0, b"avc1", track, AVCC))
    single = [one_track(1, 3, b"avc1", track, data) for track, data in frames]
    many = b"\x96\x13avc1" + b"".join(sized(track, data) for track, data in frames)
    codecs = b"\x96\x23" + b"".join(b"avc1" + sized(track, data) for track, data in frames)

    def read(demux: MediaDemuxer, bodies: list[bytes]) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for body in bodies:
            event = demux.read_video(0, body)
            for track, item in event if isinstance(event, list) else [(0, event)]:
                assert isinstance(item, AccessUnit)
                found.append((track, item.payload))
        return found

    assert read(readers[0], single) == read(readers[1], [many]) == read(readers[2], [codecs]) == frames


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\x12x", "Sorenson H.263"),
        (b"\x14x", "VP6"),
        (b"\x1ex", "video codec id 14"),
        (ex(1, 0, b"vvc1"), "FourCC 'vvc1'"),
    ],
)
def test_unsupported_video_codecs_are_reported_once(body: bytes, what: str) -> None:
    demux = MediaDemuxer()
    assert demux.read_video(0, body) == Unsupported(Kind.VIDEO, what)
    assert demux.read_video(0, body) is None


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\xb2x", "Speex"),
        (b"\x62x", "Nellymoser"),
        (b"\x32x", "PCM"),
        (b"\x72x", "G.711"),
        (b"\x91xxxxx", "FourCC 'xxxx'"),
    ],
)
def test_unsupported_audio_codecs_are_reported_once(body: bytes, what: str) -> None:
    demux = MediaDemuxer()
    assert demux.read_audio(0, body) == Unsupported(Kind.AUDIO, what)
    assert demux.read_audio(0, body) is None


def test_the_number_of_reported_fourccs_is_bounded() -> None:
    demux = MediaDemuxer()
    told = [demux.read_video(0, ex(1, 1, index.to_bytes(4, "big"))) for index in range(1000)]
    assert sum(event is not None for event in told) == 32


def test_aac_header_and_frames_are_read() -> None:
    demux = MediaDemuxer()
    track = demux.read_audio(0, b"\xaf\x00" + ASC)
    assert track == audio_track(Codec.AAC, ASC)
    assert demux.read_audio(23, b"\xaf\x01raw", 2.0) == AccessUnit(track, 23, 0, True, 2.0, b"raw")


@pytest.mark.parametrize("first", [0x2F, 0xEF])
def test_mp3_starts_with_its_first_frame(first: int) -> None:
    demux = MediaDemuxer()
    track = audio_track(Codec.MP3, b"")
    assert demux.read_audio(1, bytes((first,)) + b"mp3") == TrackStart(
        track, AccessUnit(track, 1, 0, True, 0.0, b"mp3")
    )
    assert demux.read_audio(2, bytes((first,)) + b"mp3") == AccessUnit(track, 2, 0, True, 0.0, b"mp3")


@pytest.mark.parametrize("fourcc", [b"ac-3", b"ec-3", b".mp3"])
def test_audio_without_sequence_header_starts_with_its_first_frame(fourcc: bytes) -> None:
    assert isinstance(MediaDemuxer().read_audio(0, b"\x91" + fourcc + b"x"), TrackStart)


def test_vp8_starts_with_a_key_frame() -> None:
    demux = MediaDemuxer()
    assert demux.read_video(0, ex(2, 1, b"vp08", b"x")) is None
    assert isinstance(demux.read_video(1, ex(1, 1, b"vp08", b"x")), TrackStart)
    assert isinstance(demux.read_video(2, ex(2, 1, b"vp08", b"x")), AccessUnit)


@pytest.mark.parametrize(
    "body",
    [
        b"\x17",
        b"\x17\x00\x00",
        b"\x17\0\0\0\0\x01",
        b"\x90",
        b"\x90av",
        b"\x90av01\x81",
        b"\x97",
        b"\x97\xff",
        b"\x97\x05a",
        b"\x96",
        b"\x96\x00hvc1",
    ],
)
def test_broken_video_bodies_raise_invalid_data_and_keep_the_demuxer_usable(body: bytes) -> None:
    demux = avc()
    with pytest.raises(InvalidData):
        demux.read_video(0, body)
    assert isinstance(demux.read_video(0, b"\x27\x01\0\0\0x"), AccessUnit)


@pytest.mark.parametrize("body", [b"\xaf", b"\xaf\x00\x12", b"\x90", b"\x91Op", b"\x97\x00"])
def test_broken_audio_bodies_raise_invalid_data(body: bytes) -> None:
    with pytest.raises(InvalidData):
        MediaDemuxer().read_audio(0, body)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), max_size=20))
def test_arbitrary_bodies_give_events_or_raise_invalid_data(bodies: list[tuple[bool, bytes]]) -> None:
    demux = MediaDemuxer()
    for is_video, body in bodies:
        try:
            event = demux.read_video(0, body) if is_video else demux.read_audio(0, body)
        except InvalidData:
            continue
        for item in [item for _, item in event] if isinstance(event, list) else [event]:
            assert item is None or isinstance(item, AccessUnit | MediaTrack | TrackStart | Unsupported)
        assert len(demux.others) <= 14
