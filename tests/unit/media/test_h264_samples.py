"""H.264 of recorders in one form: lengths in front, parameter sets in the record."""

from __future__ import annotations

import pytest

from gateway.media import h264, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import Codec, Kind
from tests.support.builders import AVCC
from tests.support.recorded import capture, read

SPS, PPS = h264.parse_avcc(AVCC).sps[0], h264.parse_avcc(AVCC).pps[0]
OTHER_SPS = bytes.fromhex("6742c0158c8d40a0f93506060607844235")  # 320x240
IDR, SLICE, AUD, SEI = b"\x65\x88\x84", b"\x41\x9a\x02", b"\x09\xf0", b"\x06\x05\x01\xaa\x80"
RECOVERY = b"\x06\x06\x01\xc4\x80"


def annexb(*units: bytes) -> bytes:
    return nal.join_annexb(units)


def lengths(*units: bytes) -> bytes:
    return nal.join(units)


@pytest.mark.parametrize(("name", "records"), [("h264.webm", 1), ("turn-h264.webm", 2), ("turn-avc3.mp4", 2)])
def test_chromiums_pictures_get_a_record_for_each_size(name: str, records: int) -> None:
    opened, packets = read(capture(name))
    assert opened.video is not None
    samples = NalSamples(Codec.H264, opened.video.config)
    made = [samples.take(p.payload, p.key) for p in packets if p.track.kind is Kind.VIDEO]
    assert None not in made
    assert len({m.config for m in made if m}) == records
    assert [m.key for m in made if m] == [p.key for p in packets if p.track.kind is Kind.VIDEO]


def test_start_codes_become_lengths_and_parameter_sets_move_to_the_record() -> None:
    samples = NalSamples(Codec.H264, b"")
    assert samples.take(annexb(SLICE), False) is None
    key = samples.take(annexb(AUD, SPS, PPS, SEI, IDR), True)
    assert key is not None
    assert (key.key, key.payload) == (True, lengths(SEI, IDR))
    assert key.config == h264.build_avcc([SPS], [PPS])
    later = samples.take(b"\0\0\1" + SLICE, False)
    assert later is not None
    assert (later.key, later.payload, later.config) == (False, lengths(SLICE), key.config)


@pytest.mark.parametrize("payload", [lengths(SEI, IDR), lengths(SPS, PPS, IDR)])
def test_length_prefixed_pictures_pass_unchanged(payload: bytes) -> None:
    made = NalSamples(Codec.H264, AVCC).take(payload, True)
    assert made is not None
    assert (made.config, made.key, made.payload) == (AVCC, True, payload)


def test_the_length_size_of_the_record_is_kept() -> None:
    two = AVCC[:4] + b"\xfd" + AVCC[5:]
    samples = NalSamples(Codec.H264, two)
    first = samples.take(nal.join([IDR], 2), True)
    second = samples.take(nal.join([OTHER_SPS, PPS, IDR], 2), True)
    assert first is not None
    assert second is not None
    assert first.config == two
    assert h264.parse_avcc(second.config).length_size == 2
    assert h264.parse_avcc(second.config).sps == (OTHER_SPS,)


def test_changed_parameter_sets_at_a_key_frame_make_a_new_record() -> None:
    samples = NalSamples(Codec.H264, AVCC)
    configs = []
    for sps in (SPS, OTHER_SPS, OTHER_SPS, SPS):
        made = samples.take(annexb(sps, PPS, IDR), True)
        assert made is not None
        configs.append(made.config)
    assert configs[0] == AVCC
    assert configs[1] == configs[2] != AVCC
    assert h264.parse_avcc(configs[3]).sps == (SPS,)


def test_parameter_sets_between_key_frames_stay_where_they_are() -> None:
    samples = NalSamples(Codec.H264, AVCC)
    made = samples.take(annexb(OTHER_SPS, SLICE), False)
    assert made is not None
    assert (made.config, made.payload) == (AVCC, lengths(OTHER_SPS, SLICE))


def test_a_flag_alone_makes_no_key_frame_but_a_recovery_point_does() -> None:
    samples = NalSamples(Codec.H264, AVCC)

    def key(flagged: bool, *units: bytes) -> bool:
        made = samples.take(lengths(*units), flagged)
        assert made is not None
        return made.key

    assert key(False, IDR)
    assert not key(True, SLICE)
    assert key(True, RECOVERY, SLICE)
    assert not key(False, RECOVERY, SLICE)


@pytest.mark.parametrize(
    ("sei", "is_key"),
    [
        (b"\x06\x00\x02\xaa\xbb\x01\x01\x00\x06\x01\xc4\x80", True),  # buffering period, timing, recovery point
        (b"\x06\x05\xff\x01" + b"\xaa" * 256 + b"\x06\x01\xc4\x80", True),  # user data of 256 bytes before it
        (b"\x06\x00\x04\x00\x00\x03\x01\xbb\x06\x01\xc4\x80", True),  # with an emulation prevention byte
        (b"\x06\x05\x02\x06\x06\x80", False),  # inside user data
        (b"\x06\xff\x06\x01\xc4\x80", False),  # type 261
        (b"\x06\x05\xff", False),
        (b"\x06" + b"\x05\x00" * 31 + b"\x06\x01\xc4\x80", True),
        (b"\x06" + b"\x05\x00" * 32 + b"\x06\x01\xc4\x80", False),  # more messages than are read
        (b"\x06", False),
    ],
)
def test_a_recovery_point_is_found_among_the_messages_of_an_sei_unit(sei: bytes, is_key: bool) -> None:
    made = NalSamples(Codec.H264, AVCC).take(lengths(sei, SLICE), True)
    assert made is not None and made.key is is_key


def test_a_length_that_looks_like_a_start_code_is_a_length() -> None:
    unit = b"\x65" + bytes(range(1, 256)) + b"\x01" * 44
    assert len(unit) == 300
    payload = lengths(unit)
    assert payload.startswith(b"\0\0\1")
    made = NalSamples(Codec.H264, AVCC).take(payload, True)
    assert made is not None
    assert made.payload == payload


def test_pictures_wait_until_the_record_has_parameter_sets() -> None:
    samples = NalSamples(Codec.H264, b"\x01\x64\x00\x1f\xff\xe0\x00")
    assert samples.take(lengths(IDR), True) is None
    assert samples.take(lengths(SPS, PPS, IDR), True) is not None


@pytest.mark.parametrize("payload", [b"\0\0\0\x09\x65", b"\0\0\1\xff\x65", annexb(*[SLICE] * 5000)])
def test_a_broken_picture_is_refused(payload: bytes) -> None:
    samples = NalSamples(Codec.H264, AVCC)
    if payload.startswith(b"\0\0\1"):
        made = samples.take(payload, False)  # as a start code, it is a picture of one odd unit
        assert made is not None
        assert not made.key
        return
    with pytest.raises(InvalidData):
        samples.take(payload, False)


@pytest.mark.parametrize(
    ("sps", "reorder"),
    [
        ("6764000aacb208f60220000003002000000641e244c9", 0),  # x264 without B-frames
        ("6764000aacd9447b011000000300100000030320f1225960", 2),  # with two
        (OTHER_SPS.hex(), 0),  # Chromium
        ("6764000aacd9447b01", None),  # cut short: it does not tell
    ],
)
def test_reordering_is_read_from_the_parameter_set(sps: str, reorder: int | None) -> None:
    assert h264.parse_sps(bytes.fromhex(sps)).reorder == reorder
    record = b"\x01\x64\x00\x0a\xff\xe1" + (len(sps) // 2).to_bytes(2, "big") + bytes.fromhex(sps) + b"\x00"
    assert NalSamples(Codec.H264, record).reorder == (reorder or 0)


def test_without_a_parameter_set_nothing_is_reordered() -> None:
    assert NalSamples(Codec.H264, b"").reorder == 0
