"""The first bytes of a push tell its container, and a push without any sample is limited in size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import media_recorder
from gateway.formats.media_recorder import RecordingReader
from gateway.formats.recording import RecordingOpened
from gateway.media.errors import InvalidData
from tests.support.recorded import CAPTURES, capture, cluster, described, ebml, head, pieces, simple, slices, webm


@pytest.mark.parametrize("name", CAPTURES)
def test_a_recording_is_read_equally_in_slices_and_as_a_whole(name: str) -> None:
    whole = RecordingReader().receive(capture(name))
    reader = RecordingReader()
    assert [described(e) for part in slices(name) for e in reader.receive(part)] == [described(e) for e in whole]
    assert isinstance(whole[0], RecordingOpened)


@pytest.mark.parametrize("name", ["h264.webm", "h264.mp4"])
def test_the_container_is_detected_from_single_bytes(name: str) -> None:
    data = capture(name)
    reader = RecordingReader()
    events = [e for piece in pieces(data[:6000], 1) for e in reader.receive(piece)]
    assert isinstance(events[0], RecordingOpened)


@pytest.mark.parametrize(
    "data",
    [
        capture("h264.webm")[5000:],  # a page whose first slice was sent before the socket was open
        capture("h264.mp4")[5000:],
        cluster(0, simple(1, 0, b"p")),
        b"RIFF\x00\x00\x00\x00WAVE",
        bytes(8),
        b'{"type": "config"}',
    ],
    ids=["webm", "mp4", "cluster", "riff", "zeros", "json"],
)
def test_a_push_without_its_beginning_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(InvalidData, match="the recording's beginning is missing"):
        RecordingReader().receive(data)


def test_endless_headers_without_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_recorder, "MAX_BYTES_WITHOUT_SAMPLE", 10_000)
    reader = RecordingReader()
    reader.receive(head())
    with pytest.raises(InvalidData, match="no picture and no sound"):
        for _ in range(11):
            reader.receive(ebml.element(b"\xec", bytes(1000)))


def test_a_push_with_samples_may_continue_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_recorder, "MAX_BYTES_WITHOUT_SAMPLE", 2000)
    reader = RecordingReader()
    reader.receive(webm(cluster(0, simple(1, 0, b"p", key=True))))
    for n in range(20):
        reader.receive(ebml.element(b"\xec", bytes(1000)))
        assert len(reader.receive(simple(1, n, b"p"))) == 1


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reader = RecordingReader()
    try:
        assert reader.receive(data) == []
    except InvalidData as error:
        assert str(error)
