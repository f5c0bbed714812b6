"""Which closed captions pictures carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.caption_writer import odd, packet, rolled_up, sei, user_data

START, MORE = 3, 2  # cc_type of CEA-708
PADDING = [(0, odd(b"\x00\x00")), (1, odd(b"\x00\x00"))]


def picture(content: bytes, codec: Codec = Codec.H264) -> AccessUnit:
    return AccessUnit(MediaTrack(Kind.VIDEO, codec, 1000, b""), 0, 0, True, 0.0, content)


def nal_picture(*pairs: tuple[int, bytes], h265: bool = False) -> bytes:
    units = (sei(user_data(pairs), h265=h265), b"\x65\x88" + bytes(100))
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def found(*pictures: bytes, codec: Codec = Codec.H264) -> ClosedCaptions:
    captions = ClosedCaptions()
    for content in pictures:
        captions.find(captions.look(picture(content, codec)))
    return captions


def spread(kind: int, pairs: list[bytes]) -> list[bytes]:
    """Pictures with one pair each."""
    return [nal_picture((kind, pair)) for pair in pairs]


def test_pictures_without_user_data_have_none() -> None:
    captions = found(b"\x00\x00\x00\x66\x65\x88" + bytes(100))
    assert (captions.has_room, captions.names, captions.listed) == (False, (), ())


def test_while_the_user_data_is_empty_nothing_is_known() -> None:
    captions = found(nal_picture(*PADDING))
    assert (captions.has_room, captions.names, captions.listed) == (True, (), None)


@pytest.mark.parametrize("channel", [1, 2, 3, 4])
def test_the_codes_of_captions_tell_the_channel(channel: int) -> None:
    pictures = spread((channel - 1) // 2, rolled_up(channel, "HELLO"))
    assert found(*pictures).names == (f"CC{channel}",)


def test_text_mode_and_program_information_are_no_captions() -> None:
    assert found(nal_picture((0, odd(b"\x14\x2a")), (1, odd(b"\x01\x05")), (0, odd(b"AB")))).names == ()


@pytest.mark.parametrize("number", [1, 6, 7, 63])
def test_service_blocks_tell_the_service(number: int) -> None:
    first, *rest = packet(number, b"\x00\x00\x01HELLO")
    pictures = [nal_picture((START, first), *((MORE, pair) for pair in rest))]
    assert found(*pictures).names == (f"SERVICE{number}",)


def test_a_packet_may_be_spread_over_pictures() -> None:
    first, *rest = packet(2, b"HELLO")
    assert found(*spread(START, [first]), *spread(MORE, rest[:-1])).names == ()
    assert found(*spread(START, [first]), *spread(MORE, rest)).names == ("SERVICE2",)


def test_a_packet_without_its_start_is_ignored() -> None:
    assert found(*spread(MORE, packet(2, b"HELLO"))).names == ()


def test_pairs_that_are_not_valid_are_ignored() -> None:
    content = nal_picture(*((0, pair) for pair in rolled_up(1, "HELLO"))).replace(b"\xfc", b"\xf8")
    assert found(content).names == ()


def test_names_are_in_order() -> None:
    pairs = [(START, packet(1, b"x")[0]), *((MORE, pair) for pair in packet(1, b"x")[1:])]
    content = nal_picture((1, odd(b"\x15\x25")), (0, odd(b"\x14\x20")), *pairs)
    assert found(content).names == ("CC1", "CC3", "SERVICE1")


def test_h265_and_av1_carry_them_too() -> None:
    pairs = [(0, pair) for pair in rolled_up(1, "HELLO")]
    assert found(nal_picture(*pairs, h265=True), codec=Codec.H265).names == ("CC1",)
    metadata = b"\x2a" + bytes([len(user_data(pairs)) + 1]) + b"\x04" + user_data(pairs)  # OBU of type 5, §5.8.2
    assert found(b"\x12\x00" + metadata, codec=Codec.AV1).names == ("CC1",)


def test_the_pairs_of_a_picture_are_returned() -> None:
    captions = ClosedCaptions()
    first, second = [(0, b"\x94\x2c"), (1, b"\x80\x80")], [(START, b"\x02\x21"), (MORE, b"\x00\x01")]
    content = nal_picture(*first) + nal_picture(*second)  # with emulation prevention
    assert captions.look(picture(content)) == b"\xfc\x94\x2c\xfd\x80\x80\xff\x02\x21\xfe\x00\x01"
    assert captions.look(picture(nal_picture(*first)[:-104])) == b"\xfc\x94\x2c\xfd\x80\x80"
    assert captions.look(picture(b"\x00\x00\x00\x66\x65\x88" + bytes(100))) == b""


def test_user_data_after_a_large_picture_is_read() -> None:
    unit = sei(user_data([(0, odd(b"\x14\x20"))]))
    large = b"\x65\x88" + bytes(50_000)
    content = b"".join(len(unit).to_bytes(4, "big") + unit for unit in (large, unit))
    assert found(content).names == ("CC1",)


def test_the_work_for_a_picture_is_bounded() -> None:
    empty, full = nal_picture(*PADDING), nal_picture((0, odd(b"\x14\x25")))
    assert found(empty + full).names == ("CC1",)
    assert found(empty + empty + full).names == ()


@given(st.binary(max_size=200), st.sampled_from([Codec.H264, Codec.AV1]))
def test_damaged_user_data_raises_nothing(data: bytes, codec: Codec) -> None:
    content = b"\xb5\x00\x31GA94\x03" + data
    whole = found(content, codec=codec)
    assert len(ClosedCaptions().look(picture(content, codec))) in range(0, 2 * 3 * 31 + 1, 3)
    assert whole.has_room == (len(data) > 1)


@given(st.integers(0, 200))
def test_user_data_that_is_cut_raises_nothing(size: int) -> None:
    content = nal_picture(*((0, pair) for pair in rolled_up(1, "HELLO")), *((START, pair) for pair in packet(9, b"x")))
    found(content[:size])
