"""The next size of a viewer's pictures."""

from __future__ import annotations

import pytest

from gateway.outputs.browser.picture_sizes import PictureSize, next_size
from tests.support import builders

SOURCE = PictureSize("c1", "h264", 720)
LADDER = [
    PictureSize("c1@ld", "h264", 240),
    PictureSize("c1@hd", "h264", 480),
    PictureSize("c1@same", "h264", 720),
    PictureSize("c1@other", "h265", 480),
]


@pytest.mark.parametrize(
    ("shown", "step", "name"),
    [
        ("c1", -1, "c1@hd"),
        ("c1", 1, None),
        ("c1@hd", -1, "c1@ld"),
        ("c1@hd", 1, "c1"),
        ("c1@ld", -1, None),
        ("c1@ld", 1, "c1@hd"),
        ("c1@gone", -1, "c1@hd"),
    ],
)
def test_the_next_size_has_the_same_codec(shown: str, step: int, name: str | None) -> None:
    assert next_size(SOURCE, LADDER, shown, step) == name


def test_a_stream_without_renditions_has_one_size() -> None:
    assert next_size(SOURCE, [], "c1", -1) is None


def test_the_picture_size_of_a_stream_is_read_back_from_json() -> None:
    stream = builders.stream()
    assert PictureSize.of(stream).codec == ""
    stream.set_tracks(builders.VIDEO, builders.AUDIO, {}, True)
    size = PictureSize.of(stream)
    assert size == PictureSize("c1", "h264", 720)
    assert PictureSize.from_json(size.to_json()) == size


@pytest.mark.parametrize(
    "value", [None, [], "c1", {}, {"name": 1, "codec": "h264", "side": 2}, {"name": "c", "side": 2}]
)
def test_an_invalid_size_from_another_node_is_ignored(value: object) -> None:
    assert PictureSize.from_json(value) is None
