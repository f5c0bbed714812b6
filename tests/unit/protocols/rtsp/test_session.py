"""The targets of requests, and which methods a state allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtsp.session import TRANSITIONS, RtspTarget, State, read_target, refusal

BASE = "rtsp://h:8554/c1"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (BASE, RtspTarget("c1", {}, None, BASE)),
        (f"{BASE}/", RtspTarget("c1", {}, None, BASE)),
        (f"{BASE}?sign=1-a", RtspTarget("c1", {"sign": "1-a"}, None, BASE)),
        (f"{BASE}/?sign=1-a", RtspTarget("c1", {"sign": "1-a"}, None, BASE)),
        (f"{BASE}/trackID=1", RtspTarget("c1", {}, 1, BASE)),
        (f"{BASE}/trackID=1?sign=1-a", RtspTarget("c1", {"sign": "1-a"}, 1, BASE)),
        (f"{BASE}?sign=1-a/trackID=0", RtspTarget("c1", {"sign": "1-a"}, 0, BASE)),
        ("rtsps://u:p@h/c1@720p", RtspTarget("c1@720p", {}, None, "rtsps://h/c1@720p")),
        ("rtsp://h/stream/c1", RtspTarget("c1", {}, None, "rtsp://h/stream/c1")),
        ("rtsp://h/live/c1", RtspTarget("c1", {}, None, "rtsp://h/live/c1")),
        ("rtsp://h/c%31", RtspTarget("c1", {}, None, "rtsp://h/c%31")),
    ],
)
def test_an_address_names_a_stream_its_query_and_a_track(url: str, target: RtspTarget) -> None:
    assert read_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        *("*", "", "c1", "http://h/c1", "rtsp:///c1", "rtsp://[x/c1", "rtsp://h/c1\r\nX: y", f"rtsp://h/{'a' * 3_000}"),
        f"rtsp://h/c1?{'&'.join(f'a{n}=1' for n in range(40))}",
    ],
)
def test_other_addresses_name_nothing(url: str) -> None:
    assert read_target(url) is None


@given(st.text(max_size=100))
def test_any_address_is_read_without_an_error(text: str) -> None:
    read_target(f"rtsp://h/{text}")
    read_target(text)


@pytest.mark.parametrize("state", State)
def test_each_state_allows_the_methods_of_its_table_and_signs_of_life(state: State) -> None:
    for method in ("DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD"):
        assert (refusal(state, method) == "") is (method in TRANSITIONS[state]), method
    for method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "TEARDOWN"):
        assert refusal(state, method) == ""
    assert refusal(state, "PAUSE").startswith("" if state is State.PLAYING else "405 ")
    assert refusal(state, "REDIRECT").startswith("501 ")


def test_a_player_that_plays_may_pause_and_then_plays_again_or_sets_up_its_tracks_anew() -> None:
    assert refusal(State.PLAYING, "PAUSE") == ""
    assert TRANSITIONS[TRANSITIONS[State.PLAYING]["PAUSE"]] == {"SETUP": State.READY_TO_PLAY, "PLAY": State.PLAYING}


def test_a_player_may_repeat_play_and_a_publisher_record() -> None:
    assert refusal(State.PLAYING, "PLAY") == refusal(State.RECORDING, "RECORD") == ""
    assert refusal(State.PLAYING, "SETUP").startswith("455 ")
