"""The original browser client's paths and lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.push import Stats
from gateway.protocols.push_original import OriginalPath, parse_path, stats_line

TARGET = "rtmps://x.global-contribute.live-video.net:443/app/sk_eu-west-1_abc"


@pytest.mark.parametrize(
    ("path", "codec", "target"),
    [
        (f"/rtmps/h264/{TARGET}", "h264", TARGET),
        (f"/rtmps/vp8o/{TARGET}", "vp8o", TARGET),
        (f"/rtmps/mp4a/{TARGET}", "mp4a", TARGET),
        (f"/rtmps/{TARGET}", "", TARGET),
        (f"/rtmps/what/{TARGET}", "what", TARGET),
        ("/rtmps/h264/rtmp://host:1935/stream/id?sign=1-a", "h264", "rtmp://host:1935/stream/id?sign=1-a"),
        ("/rtmps/h264/RTMP://host/app/key", "h264", "RTMP://host/app/key"),
        ("/rtmps/h264/rtmps%3A%2F%2Fhost%2Fapp%2Fkey", "h264", "rtmps://host/app/key"),
    ],
)
def test_both_versions_of_the_client_are_understood(path: str, codec: str, target: str) -> None:
    assert parse_path(path) == OriginalPath(codec, target)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/rtmps/",
        "/rtmps/h264/",
        "/rtmps/h264",
        "/rtmp/h264/rtmp://host/app/key",
        "/rtmps/h264/http://host/app/key",
        "/rtmps/h264/x/rtmp://host/app/key",
        f"/rtmps/{'x' * 17}/{TARGET}",
        "/rtmps/h264/rtmp://host/app/key%0d%0aX: y",
        "/rtmps/h264/rtmp://host/" + "x" * 2048,
    ],
)
def test_other_paths_are_not_recognized(path: str) -> None:
    parsed = parse_path(path)
    assert parsed is None or "%0d" in parsed.target  # escaped, it is a character like others


@given(st.text(max_size=100))
def test_any_path_is_read_or_not_recognized(text: str) -> None:
    for path in (text, f"/rtmps/{text}", f"/rtmps/h264/rtmp://{text}"):
        parsed = parse_path(path)
        assert parsed is None or parsed.target.lower().startswith(("rtmp://", "rtmps://"))


def test_a_path_does_not_show_its_key() -> None:
    assert "sk_" not in repr(parse_path(f"/rtmps/h264/{TARGET}"))


def test_progress_is_a_line_as_ffmpeg_prints_it() -> None:
    line = stats_line(Stats(2_500_000, 10, 90, 2, 29.97, 0.25, "copy", "transcode"))
    assert line == "frame=   90 fps=30.0 bitrate= 2500.0kbits/s drop=2 behind=0.2s"
