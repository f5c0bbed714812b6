"""FLV streams that arrive in pieces."""

import pytest

from gateway.formats.flv import muxer
from gateway.formats.flv.reader import FlvReader
from gateway.media.errors import InvalidData
from tests.support.feeding import feed_all_ways


def test_tags_are_read_from_pieces_of_any_size() -> None:
    tags = [(9, 5, b"video"), (8, 0x01FFFFFF, b"a"), (18, 0xFFFFFFFF, b"")]
    data = muxer.file_header(True, True) + b"".join(muxer.tag(*tag) for tag in tags)
    assert feed_all_ways(lambda: FlvReader().receive, data) == tags


@pytest.mark.parametrize(
    "data", [b"GIF89a, no FLV", b"FLV\1\5\xff\xff\xff\xff", b"FLV\1\5\0\0\0\x09\0\0\0\0\x09\xff\xff\xff" + bytes(9)]
)
def test_invalid_flv_raises_invalid_data(data: bytes) -> None:
    with pytest.raises(InvalidData):
        FlvReader().receive(data)
