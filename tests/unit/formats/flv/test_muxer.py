"""The FLV muxer writes data that the demuxer reads back and that players and servers expect byte by byte."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.flv.demuxer import MediaDemuxer, parse_script
from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO, ScriptTag
from gateway.media.timed_data import AdCue, CueType, Script
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from tests.support import builders
from tests.support.flv_reader import FlvFileDemuxer

CONFIGS = {
    Codec.H264: b"\x01\x64\x00\x1f\xff\xe1\x00\x00",
    Codec.H265: b"\x01" + bytes(22),
    Codec.AV1: b"\x81\x00\x0c\x00",
    Codec.VP8: b"\x00\x0a\x82\x02\x02\x02\x00\x00",
    Codec.VP9: b"\x00\x0a\x82\x02\x02\x02\x00\x00",
    Codec.AAC: b"\x12\x10",
    Codec.MP3: b"",
    Codec.OPUS: b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00",
    Codec.FLAC: b"fLaC\x80\0\0\x22" + bytes(34),
    Codec.AC3: b"",
    Codec.EAC3: b"",
}
VIDEO_CODECS = (Codec.H264, Codec.H265, Codec.AV1, Codec.VP8, Codec.VP9)


def track(codec: Codec, timescale: int = 1000) -> MediaTrack:
    kind = Kind.VIDEO if codec in VIDEO_CODECS else Kind.AUDIO
    return MediaTrack(kind, codec, timescale, CONFIGS[codec])


def unit(
    codec: Codec, dts: int = 0, cts: int = 0, key: bool = True, payload: bytes = b"p", timescale: int = 1000
) -> AccessUnit:
    return AccessUnit(track(codec, timescale), dts, cts, key, 0.0, payload)


def tracks(codec: Codec, **metadata: Any) -> Tracks:
    one = track(codec)
    if one.kind is Kind.VIDEO:
        return Tracks(one, None, metadata=metadata)
    return Tracks(None, one, metadata=metadata)


@pytest.mark.parametrize(("video", "audio", "flags"), [(True, True, 5), (True, False, 1), (False, True, 4)])
def test_the_file_header_has_flags_for_video_and_audio(video: bool, audio: bool, flags: int) -> None:
    assert muxer.file_header(video, audio) == b"FLV\x01" + bytes((flags,)) + b"\0\0\0\x09\0\0\0\0"


def test_an_h264_tag_has_the_expected_bytes() -> None:
    tag = muxer.unit_tag(unit(Codec.H264, dts=0x12345678, cts=80, payload=b"nalu"))
    assert tag == b"\x09\0\0\x09\x34\x56\x78\x12\0\0\0" + b"\x17\x01\0\0\x50nalu" + b"\0\0\0\x14"


def test_an_aac_tag_has_the_expected_bytes() -> None:
    assert muxer.unit_tag(unit(Codec.AAC, dts=1)) == b"\x08\0\0\x03\0\0\x01\0\0\0\0\xaf\x01p\0\0\0\x0e"


def test_an_inter_frame_may_have_a_negative_composition_time() -> None:
    assert muxer.unit_body(unit(Codec.H264, cts=-40, key=False)) == b"\x27\x01\xff\xff\xd8p"


def test_hevc_uses_enhanced_flv_bodies() -> None:
    assert muxer.unit_body(unit(Codec.H265, cts=33)) == b"\x91hvc1\x00\x00\x21p"
    assert muxer.unit_body(unit(Codec.H265, key=False)) == b"\xa3hvc1p"


def test_times_wrap_at_32_bits() -> None:
    assert muxer.unit_time(unit(Codec.H264, dts=(1 << 32) + 5)) == 5
    assert muxer.unit_tag(unit(Codec.H264, dts=(1 << 32) + 5))[4:8] == b"\0\0\x05\0"
    assert muxer.unit_tag(unit(Codec.H264, dts=-1))[4:8] == b"\xff\xff\xff\xff"


def test_other_timescales_become_milliseconds() -> None:
    ticks = unit(Codec.H264, dts=3003, cts=3003, timescale=90_000)
    assert muxer.unit_time(ticks) == 33
    tag = muxer.unit_tag(ticks)
    assert tag[4:7] == b"\0\0\x21"
    assert tag[13:16] == (66 - 33).to_bytes(3, "big")
    assert muxer.unit_body(ticks) == tag[11:-4]


@pytest.mark.parametrize("codec", list(Codec))
@given(
    dts=st.integers(0, 0xFFFFFFFF),
    cts=st.integers(-(1 << 23), (1 << 23) - 1),
    key=st.booleans(),
    payload=st.binary(min_size=1),
)
def test_the_demuxer_reads_back_all_units_of_the_muxer(
    codec: Codec, dts: int, cts: int, key: bool, payload: bytes
) -> None:
    if codec not in (Codec.H264, Codec.H265):
        cts = 0
    if codec not in VIDEO_CODECS:
        key = True
    wanted = unit(codec, dts, cts, key, payload)
    data = muxer.file_header(True, True) + muxer.sequence_headers(tracks(codec), 0)
    demux = FlvFileDemuxer()
    headers = demux.receive(data)
    events = demux.receive(muxer.unit_tag(wanted))
    if CONFIGS[codec]:
        assert headers == [wanted.track]
        assert events == [wanted]
    else:
        assert [e.unit for e in events] == [wanted]  # type: ignore[union-attr]
    assert muxer.unit_tag(wanted)[11:-4] == muxer.unit_body(wanted)


def test_a_vp9_sequence_start_has_a_box_header() -> None:
    assert muxer.track_body(track(Codec.VP9)) == b"\x90vp09\x01\0\0\0" + CONFIGS[Codec.VP9]


def test_sequence_bodies_are_given_for_codecs_with_headers() -> None:
    both = Tracks(track(Codec.H264), track(Codec.MP3))
    assert muxer.sequence_bodies(both) == [(VIDEO, b"\x17\0\0\0\0" + CONFIGS[Codec.H264])]
    both = Tracks(track(Codec.H264), track(Codec.AAC))
    bodies = muxer.sequence_bodies(both)
    assert [kind for kind, _ in bodies] == [VIDEO, AUDIO]
    demux = MediaDemuxer()
    assert demux.read_audio(0, bodies[1][1]) == both.audio


def test_metadata_keeps_the_publishers_values_without_stale_ones() -> None:
    wanted = tracks(
        Codec.H264, width=640.0, encoder="x", duration=9.0, fileSize=1.0, hasKeyframes=True, audiocodecid=10.0
    )
    script = parse_script(0, muxer.metadata_body(wanted))
    assert (script.name, script.values) == ("onMetaData", ({"width": 640.0, "encoder": "x", "videocodecid": 7.0},))


@pytest.mark.parametrize(
    ("codec", "key", "value"),
    [
        (Codec.H265, "videocodecid", 1752589105.0),
        (Codec.AV1, "videocodecid", 1635135537.0),
        (Codec.AAC, "audiocodecid", 10.0),
        (Codec.MP3, "audiocodecid", 2.0),
        (Codec.OPUS, "audiocodecid", 1332770163.0),
    ],
)
def test_metadata_names_the_codec_as_it_is_sent(codec: Codec, key: str, value: float) -> None:
    (values,) = parse_script(0, muxer.metadata_body(tracks(codec))).values
    assert values[key] == value


@pytest.mark.parametrize("before", [{}, {"width": 640.0, "height": 360.0, "displayWidth": 640.0, "framerate": 30.0}])
def test_metadata_has_the_size_of_the_sequence_header(before: dict[str, Any]) -> None:
    shown = Tracks(builders.VIDEO, None, metadata=before)
    (values,) = parse_script(0, muxer.metadata_body(shown)).values
    assert (values["width"], values["height"], values.get("framerate")) == (1280.0, 720.0, before.get("framerate"))
    assert "displayWidth" not in values


def test_metadata_has_the_audio_format_of_the_sequence_header() -> None:
    said = {"audiosamplerate": 22050.0, "audiochannels": 6.0, "stereo": False}
    (values,) = parse_script(0, muxer.metadata_body(Tracks(None, builders.AUDIO, metadata=said))).values
    assert (values["audiosamplerate"], values["audiochannels"], values["stereo"]) == (44100.0, 2.0, True)


def test_metadata_is_unchanged_if_no_header_has_better_values() -> None:
    said = {"width": 640.0, "height": 360.0, "audiosamplerate": 22050.0}
    for broken in (MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\1\2\3"), track(Codec.VP9), track(Codec.H265)):
        (values,) = parse_script(0, muxer.metadata_body(Tracks(broken, track(Codec.MP3), metadata=said))).values
        assert said.items() <= values.items()


def test_timed_data_is_read_back_unchanged() -> None:
    amf = amf0.encode({"text": "hi"})
    events = FlvFileDemuxer().receive(
        muxer.file_header(True, True) + muxer.timed_tag(TimedData(77, Script("onTextData", amf)))
    )
    assert events == [ScriptTag(77, "onTextData", ({"text": "hi"},), amf)]


def test_bodies_above_the_format_limit_raise_a_value_error() -> None:
    for call in (
        lambda: muxer.unit_tag(unit(Codec.H264, payload=bytes(1 << 24))),
        lambda: muxer.tag(SCRIPT, 0, bytes(1 << 24)),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            call()


@pytest.mark.parametrize("codec", list(CONFIGS))
def test_additional_tracks_are_read_back_unchanged(codec: Codec) -> None:
    demux, one = MediaDemuxer(), track(codec)
    read = demux.read_video if one.kind is Kind.VIDEO else demux.read_audio
    if head := muxer.additional_track_body(9, one):
        assert read(0, head) == [(9, one)]
    cts = -40 if codec in (Codec.H264, Codec.H265) else 0
    sent = unit(codec, 7, cts)
    (found,) = read(7, muxer.additional_body(9, sent)) or [None]
    assert found is not None
    item = found[1]
    assert (found[0], item if isinstance(item, AccessUnit) else item.unit) == (9, sent)


def test_descriptions_of_additional_tracks_are_sent_only_with_these_tracks() -> None:
    described = tracks(Codec.AAC, audioTrackIdInfoMap={"1": {"language": "fr"}})
    assert b"audioTrackIdInfoMap" not in muxer.metadata_body(described)
    assert b"audioTrackIdInfoMap" in muxer.metadata_body(described, additional=True)


def test_times_of_a_transport_stream_are_written_in_milliseconds() -> None:
    cue = AdCue(CueType.OUT, "1", 9046, None, b"\xfc")
    assert muxer.timed_tag(TimedData(4544, cue, 90_000)) == muxer.timed_tag(TimedData(50, replace(cue, at=101)))
