"""Watermarks and still requests: the fields of channels, their transfer to workers, and invalid messages."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.jpeg_protocol import JpegAction, JpegReply, JpegRequest, PictureDifference
from gateway.workers.watermark_spec import WatermarkSpec, picture_url, wants_watermark
from tests.fuzz import fuzz_mark, fuzz_still
from tests.support.builders import channel

FIELDS = {"WaterMarkText": "a:b'c%d", "WaterMarkFontSize": "48", "WaterMarkFontColor": "yellow@0.5",
          "WaterMarkLeft": 7, "WaterMarkTop": 9, "ImageURL": "http://pictures.example/a.png",
          "ImageWidth": "64", "ImageHeight": 32}  # fmt: skip


def test_a_channels_fields_become_a_mark() -> None:
    mark = WatermarkSpec.of(channel(isWaterMark="true", **FIELDS))
    assert mark == WatermarkSpec("a:b'c%d", 48, "yellow@0.5", 7, 9, 64, 32)


def test_text_and_picture_are_switched_separately() -> None:
    text = channel(isWaterMark=True, **FIELDS)
    image = channel(isImageWaterMark=True, **FIELDS)
    both = channel(isWaterMark=True, isImageWaterMark=True, **FIELDS)
    assert [(bool(WatermarkSpec.of(c).text), bool(picture_url(c))) for c in (text, image, both)] == [
        (True, False),
        (False, True),
        (True, True),
    ]
    assert all(wants_watermark(c) for c in (text, image, both))


def test_a_mark_switched_on_without_flags_shows_all_configured_fields() -> None:
    neither = channel(**FIELDS)
    assert not wants_watermark(neither)
    assert WatermarkSpec.of(neither).text == "a:b'c%d"
    assert picture_url(neither) == FIELDS["ImageURL"]


@given(st.text(max_size=1_024), st.integers(1, 1_000), st.integers(0, 16_384), st.binary(max_size=200))
def test_a_mark_is_transferred_unchanged(text: str, size: int, left: int, data: bytes) -> None:
    mark = WatermarkSpec(text, size, "red", left, 3, 5, 8, data)
    assert WatermarkSpec.decode(mark.encode()) == mark


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\5{}", b"\0\0\0\2{}", b"\0\0\0\2[]", b"\xff\xff\xff\xff"])
def test_an_invalid_mark_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidData):
        WatermarkSpec.decode(body)


def test_a_request_for_a_still_is_transferred_unchanged() -> None:
    for ask in (JpegRequest(JpegAction.COMPARE, 3, 7, False, 70, 12, 640), JpegRequest(JpegAction.CLOSE, 3)):
        assert wire.decode_record(JpegRequest, wire.write_json(asdict(ask))) == ask


def test_replies_and_picture_differences_are_transferred_unchanged() -> None:
    for answer in (JpegReply(1, True, b"jpeg"), JpegReply((1 << 32) - 1, False, "größer".encode())):
        assert JpegReply.decode(answer.encode()) == answer
    for look in (PictureDifference(12.5, 9), PictureDifference(lost=True), PictureDifference(first=True)):
        assert wire.decode_record(PictureDifference, wire.write_json(asdict(look))) == look


def test_every_cut_request_is_refused() -> None:
    body = wire.write_json(asdict(JpegRequest(JpegAction.PICTURE)))
    for end in range(len(body)):
        with pytest.raises(InvalidData):
            wire.decode_record(JpegRequest, body[:end])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_mark_or_refused(data: bytes) -> None:
    fuzz_mark.fuzz(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    fuzz_still.fuzz(data)
