"""The configuration for OBS Multitrack Video: a ladder that suits the canvas and the computer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.obs_multitrack import (
    ENCODERS,
    MAX_VIDEO_TRACKS,
    Canvas,
    EncoderLimits,
    make_configuration,
    make_ladder,
    read_client_request,
)

SERVER, KEY = "rtmps://live.example.com:1938/stream", "c1?sign=1-a"


def sizes(canvas: Canvas, **limits: Any) -> list[tuple[int, int]]:
    return [(rung.width, rung.height) for rung in make_ladder(canvas, EncoderLimits(**limits))]


def test_a_full_hd_canvas_has_four_tracks() -> None:
    assert sizes(Canvas()) == [(1920, 1080), (1280, 720), (854, 480), (640, 360)]


def test_tracks_of_a_portrait_canvas_are_portrait() -> None:
    assert sizes(Canvas(1080, 1920), rungs=2) == [(1080, 1920), (720, 1280)]


def test_small_tracks_of_a_60_fps_canvas_have_half_the_frame_rate() -> None:
    rates = [rung.halved for rung in make_ladder(Canvas(numerator=60), EncoderLimits())]
    assert rates == [False, False, True, True]


def test_the_total_bitrate_of_all_tracks_stays_below_the_limit() -> None:
    for limit in (100, 1_000, 5_000, 8_000):
        rungs = make_ladder(Canvas(), EncoderLimits(bitrate=limit))
        assert rungs and sum(rung.kbit for rung in rungs) <= limit


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_has_short_gops_and_no_b_frames(encoder: str) -> None:
    sent = make_configuration(Canvas(), EncoderLimits(encoder), SERVER, KEY)
    assert sent["ingest_endpoints"][0] == {
        "protocol": "RTMPS",
        "url_template": f"{SERVER}/{{stream_key}}",
        "authentication": KEY,
    }
    for track in sent["encoder_configurations"]:
        settings = track["settings"]
        assert (settings["keyint_sec"], settings["profile"], settings["rate_control"]) == (2, "high", "CBR")
        assert not settings.get("bf") and not settings.get("bframes")
        assert "bf" in settings or "bframes" in settings or "bframes=0" in settings["x264opts"]


@pytest.mark.parametrize(
    ("capabilities", "encoder", "rungs"),
    [
        ({"gpu": [{"vendor_id": 0x10DE}], "system": {"name": "Linux"}}, "nvenc", 4),
        ({"gpu": [{"vendor_id": 0x1002}], "system": {"name": "Windows"}}, "amf", 3),
        ({"gpu": [{"vendor_id": 0x8086}], "system": {"name": "Windows"}}, "qsv", 3),
        ({"gpu": [{"vendor_id": 0x8086}], "system": {"name": "Linux"}, "cpu": {"logical_cores": 8}}, "x264", 2),
        ({"gpu": [], "system": {"name": "macOS"}}, "videotoolbox", 3),
        ({"cpu": {"logical_cores": 2}}, "x264", 1),
        ({}, "x264", 1),
    ],
)
def test_encoder_and_number_of_tracks_depend_on_the_computer(
    capabilities: dict[str, Any], encoder: str, rungs: int
) -> None:
    _, limits = read_client_request({"capabilities": capabilities})
    assert (limits.encoder, limits.rungs) == (encoder, rungs)


def test_the_client_can_limit_the_number_of_tracks_and_the_bitrate() -> None:
    gpu = {"gpu": [{"vendor_id": 0x10DE}]}
    preferences = {"maximum_video_tracks": 2, "maximum_aggregate_bitrate": 9_000}
    canvas, limits = read_client_request({"capabilities": gpu, "preferences": preferences})
    assert (canvas, limits) == (Canvas(), EncoderLimits("nvenc", 2, 9_000))


@pytest.mark.parametrize("canvas", [(0, 1080), (1920, 99_999), (-5, 5)], ids=["no width", "too high", "negative"])
def test_invalid_canvas_sizes_are_refused(canvas: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size"):
        Canvas(*canvas)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("preferences", "capabilities", "canvases", "framerate", "gpu", "width", "vendor_id", "system")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(("preferences", "capabilities")), JSON, max_size=2))
def test_any_request_gives_a_configuration_or_a_value_error(body: dict[str, Any]) -> None:
    try:
        canvas, limits = read_client_request(body)
    except ValueError:
        return
    sent = make_configuration(canvas, limits, SERVER, KEY)
    assert 1 <= len(sent["encoder_configurations"]) <= MAX_VIDEO_TRACKS
    assert all(not t["width"] % 2 and not t["height"] % 2 for t in sent["encoder_configurations"])
    json.dumps(sent, allow_nan=False)
