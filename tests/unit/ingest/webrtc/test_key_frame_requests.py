"""`KeyFrameRequests` decides when a WHIP publisher is asked for a key frame."""

from gateway.ingest.webrtc.intake import KeyFrameRequests


def asked(requests: KeyFrameRequests, begin: float, end: float) -> list[float]:
    """The times at which a timer of 10 ms finds a request due."""
    return [n / 100 for n in range(round(begin * 100), round(end * 100)) if requests.take_request(n / 100)]


def test_a_sender_without_key_frames_is_asked_repeatedly_after_the_interval() -> None:
    requests = KeyFrameRequests(2.0, 0.0)
    assert asked(requests, 0, 5) == [2.01, 3.01, 4.01]
    requests.note_key_frame(5.0)
    assert asked(requests, 5, 8) == [7.01]


def test_a_sender_with_regular_key_frames_is_not_asked() -> None:
    requests = KeyFrameRequests(2.0, 0.0)
    requests.note_key_frame(0.0)
    assert asked(requests, 0, 2.2) == [2.01], "the first key frame says nothing"
    for second in range(2, 20, 2):
        requests.note_key_frame(second + second % 3 * 0.4)
        assert not asked(requests, second + second % 3 * 0.4, second + 2 + (second + 2) % 3 * 0.4)
    assert asked(requests, 20, 22) == [21.01]


def test_key_frames_for_consumers_are_requested_at_most_once_a_second() -> None:
    requests = KeyFrameRequests(0.0, 0.0)
    assert not asked(requests, 0, 100)
    requests.want()
    assert asked(requests, 100, 100.5) == [100.0]
    requests.want()
    assert asked(requests, 100.5, 102.5) == [101.0, 102.0]
    requests.note_key_frame(102.6)
    assert not asked(requests, 102.6, 110)
